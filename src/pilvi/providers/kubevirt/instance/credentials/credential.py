"""What the accessCredentials of an instance ask for, and what their Secrets hold. Pure.

As in KubeVirt all keys of a Secret count: each holds public keys, or is the name of a user whose password it holds.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError

__all__ = ["Credentials", "Wanted", "find_credentials", "get_secret", "read_public_keys", "read_wanted", "secret_names"]

_SEEDS = {"noCloud": "cloudInitNoCloud", "configDrive": "cloudInitConfigDrive"}

Find = Callable[[Key], JsonObject | None]


@dataclass(frozen=True)
class Credentials:
    """Secrets by the way that their content takes: `by_seed`; `keys`, with the users that get them; `passwords`."""

    by_seed: tuple[Key, ...] = ()
    keys: tuple[tuple[Key, tuple[str, ...]], ...] = ()
    passwords: tuple[Key, ...] = ()

    @property
    def by_agent(self) -> bool:
        """Whether the guest's agent has to do anything."""
        return bool(self.keys or self.passwords)


@dataclass(frozen=True)
class Wanted:
    """What the agent shall see to: all keys of each user, and passwords by user."""

    keys: tuple[tuple[str, tuple[str, ...]], ...] = ()
    passwords: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def find_credentials(vmi: JsonObject) -> Credentials:
    """Raises UserError for a way that is missing, double, or leads nowhere."""
    namespace, spec = vmi["metadata"]["namespace"], vmi["spec"]
    sources = {source for volume in spec.get("volumes") or [] for source in _SEEDS.values() if volume.get(source) is not None}
    by_seed, keys, passwords = [], [], []
    for number, credential in enumerate(spec.get("accessCredentials") or []):
        path = f"spec.accessCredentials[{number}]"
        kind, way = _find_way(credential, path)
        secret = ((credential[kind].get("source") or {}).get("secret") or {}).get("secretName")
        if not secret:
            raise UserError(f"{path}.{kind}.source names no Secret", hint="write source: {secret: {secretName: NAME}}")
        key = Key(namespace, secret)
        if kind == "userPassword":
            passwords.append(key)
        elif way == "qemuGuestAgent":
            users = tuple(credential[kind]["propagationMethod"][way].get("users") or ())
            if not users:
                raise UserError(f"{path}.{kind}.propagationMethod.{way} names no users", hint="write users: [NAME]")
            keys.append((key, users))
        elif _SEEDS[way] not in sources:
            raise UserError(f"{path}.{kind}.propagationMethod.{way} needs a volume {_SEEDS[way]}", hint="add one, with a disk of its name")
        else:
            by_seed.append(key)
    return Credentials(tuple(by_seed), tuple(keys), tuple(passwords))


def secret_names(vmi_spec: JsonObject) -> set[str | None]:
    """The Secrets that access credentials name, whatever else is wrong with them."""
    parts = [
        part for each in vmi_spec.get("accessCredentials") or [] for part in (each.get("sshPublicKey"), each.get("userPassword")) if part
    ]
    return {((part.get("source") or {}).get("secret") or {}).get("secretName") for part in parts}


def read_public_keys(secret: JsonObject) -> tuple[str, ...]:
    """All public keys in a Secret, a line each; comments and empty lines are left out. Raises UserError for what is no text."""
    lines = (line.strip() for text in _texts(secret).values() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def read_wanted(credentials: Credentials, find: Find) -> Wanted:
    """What the Secrets say now. Raises UserError for one that does not exist or holds what is no text."""
    keys: dict[str, list[str]] = {}
    for key, users in credentials.keys:
        for user in users:
            keys.setdefault(user, []).extend(read_public_keys(get_secret(find, key)))
    passwords: dict[str, str] = {}
    for key in credentials.passwords:
        passwords |= {user: text.strip() for user, text in _texts(get_secret(find, key)).items() if text.strip()}
    return Wanted(tuple((user, tuple(dict.fromkeys(lines))) for user, lines in keys.items()), tuple(passwords.items()))


def get_secret(find: Find, key: Key) -> JsonObject:
    """Raises UserError when it does not exist."""
    secret = find(key)
    if secret is None:
        raise UserError(f"Secret {key} of the machine's accessCredentials does not exist", hint="create it")
    return secret


def _find_way(credential: JsonObject, path: str) -> tuple[str, str]:
    kinds = [kind for kind in ("sshPublicKey", "userPassword") if credential.get(kind)]
    if len(kinds) != 1:
        raise UserError(f"{path} has {' and '.join(kinds) or 'nothing'}", hint="write one of sshPublicKey and userPassword")
    (kind,) = kinds
    given = credential[kind].get("propagationMethod") or {}
    ways = [way for way in (*_SEEDS, "qemuGuestAgent") if given.get(way) is not None]
    if len(ways) != 1:
        raise UserError(
            f"{path}.{kind}.propagationMethod has {' and '.join(ways) or 'nothing'}",
            hint="write one of noCloud, configDrive and qemuGuestAgent",
        )
    return kind, ways[0]


def _texts(secret: JsonObject) -> dict[str, str]:
    found = {}
    for name, value in sorted((secret.get("data") or {}).items()):
        try:
            found[name] = base64.b64decode(value).decode()
        except ValueError as e:
            raise UserError(f"Secret {Key.of(secret)}: what stands under {name} is no text", hint="put UTF-8 text there") from e
    return found
