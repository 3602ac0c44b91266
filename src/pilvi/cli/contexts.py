"""Contexts of clouds in the user's kubeconfig: merged in, found again, and taken out.

An entry is ours when it trusts a certificate authority of ours: one that the cloud has today, or the one that our mark on the entry
names (for clusters that are gone already). Other entries are never replaced or removed: where one has the name, ours gets the cloud's
id. The file is locked while it is written, as client-go does it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from pilvi.errors import UserError
from pilvi.lib.files import write_atomic

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["PLATFORM", "authorities_of", "context_name", "find_platform", "merge", "merge_into_user", "remove"]

Document: TypeAlias = dict[str, Any]

PLATFORM = "pilvi"
_SECTIONS = ("clusters", "users", "contexts")
_MARK = "pilvi.dev/cloud"
_LOCK_TIMEOUT_S = 5.0


def context_name(cloud: Cloud | None, cluster: str = "") -> str:
    """`pilvi`, or `pilvi/NAMESPACE/NAME` of a cluster; a cloud with another home than the default has its id in it."""
    from pilvi.host.cloud import DEFAULT_HOME

    base = PLATFORM if cloud is None or cloud.home == DEFAULT_HOME else f"{PLATFORM}-{cloud.id}"
    return f"{base}/{cluster}" if cluster else base


def merge(cloud: Cloud | None, kubeconfig: bytes, cluster: str = "", *, make_current: bool = True, path: Path | None = None) -> str:
    """Put the one context of `kubeconfig` into the user's file (or into `path`); returns the name that it has there.

    `cluster` is `NAMESPACE/NAME`, empty for the platform. Raises UserError when the file is no kubeconfig; it is then left alone.
    """
    ours = _load(kubeconfig)
    parts = {section: ours[section][0] for section in _SECTIONS}
    authority = parts["clusters"]["cluster"].get("certificate-authority-data", "")
    target, owner = _target() if path is None else (path, (os.getuid(), os.getgid()))
    with _locked(target, owner):
        document = _read(target)
        name = _free_name(document, cloud, cluster, authority)
        mark = {"name": _MARK, "extension": {"cloud": cloud.id if cloud else "", "authority": _fingerprint(authority)}}
        parts["clusters"]["cluster"]["extensions"] = [mark]
        parts["contexts"]["context"] = {**parts["contexts"]["context"], "cluster": name, "user": name}
        for section, entry in parts.items():
            document[section] = [*(present for present in document[section] if present.get("name") != name), {**entry, "name": name}]
        if make_current:
            document["current-context"] = name
        _write(target, document, owner)
    return name


def merge_into_user(home: Path, kubeconfig: bytes, cluster: str = "") -> str:
    """`merge` for whoever knows only the home, which may be on another host or closed to this user."""
    from pilvi.host.cloud import find_cloud

    cloud = None
    with suppress(PermissionError):
        cloud = find_cloud(home)
    return merge(cloud, kubeconfig, cluster)


def remove(cloud_id: str, authorities: Iterable[bytes]) -> list[str]:
    """Take out every context whose cluster trusts one of these CA certificates (PEM), or one that was ours when we merged it.

    `cloud_id` is empty to go by the certificates alone. Returns the names of the contexts. Raises UserError as `merge` does.
    """
    path, owner = _target()
    if not path.exists():
        return []
    trusted = {base64.b64encode(authority).decode() for authority in authorities}
    with _locked(path, owner):
        document = _read(path)
        clusters = {entry["name"] for entry in document["clusters"] if _is_ours(entry, trusted, cloud_id)}
        if not clusters:
            return []
        gone = [entry for entry in document["contexts"] if _part(entry, "context").get("cluster") in clusters]
        names = [entry["name"] for entry in gone]
        document["clusters"] = [entry for entry in document["clusters"] if entry["name"] not in clusters]
        document["contexts"] = [entry for entry in document["contexts"] if entry["name"] not in names]
        used = {_part(entry, "context").get("user") for entry in document["contexts"]}
        unused = {_part(entry, "context").get("user") for entry in gone} - used
        document["users"] = [entry for entry in document["users"] if entry["name"] not in unused]
        if document.get("current-context") in names:
            document["current-context"] = ""
        _write(path, document, owner)
    return names


def find_platform(cloud: Cloud | None) -> bytes | None:
    """The platform's kubeconfig out of the user's: that of this cloud, known by its address; without a cloud on this host that of
    the context `pilvi`. None when there is none. The current context is never taken: it may be of anybody.
    """
    document = _read_all()
    if cloud is not None:
        server = f"https://{cloud.platform_address.ip}:6443"
        servers = {entry["name"]: _part(entry, "cluster").get("server") for entry in document["clusters"]}
        wanted = next(
            (entry["name"] for entry in document["contexts"] if servers.get(_part(entry, "context").get("cluster")) == server), None
        )
    else:
        wanted = PLATFORM
    return _extract(document, wanted) if wanted else None


def authorities_of(cloud: Cloud) -> set[bytes]:
    """The CA certificates (PEM) of the platform and of every cluster that has its files here."""
    paths = [cloud.home / "plane" / "pki" / "ca.crt", *(cloud.home / "control-planes").glob("*/pki/ca.crt")]
    return {path.read_bytes() for path in paths if path.exists()}


def _target() -> tuple[Path, tuple[int, int]]:
    """The file that is written, as client-go chooses it, and who owns it: under sudo the person who called it."""
    owner = (int(os.environ.get("SUDO_UID") or os.getuid()), int(os.environ.get("SUDO_GID") or os.getgid()))
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    if named:
        return next((path for path in named if path.exists()), named[-1]), owner
    return _user_home() / ".kube" / "config", owner


def _user_home() -> Path:
    if uid := os.environ.get("SUDO_UID"):
        try:
            return Path(pwd.getpwuid(int(uid)).pw_dir)
        except KeyError:
            pass  # a user without an entry, as in containers
    return Path.home()


def _free_name(document: Document, cloud: Cloud | None, cluster: str, authority: str) -> str:
    """The usual name; with the cloud's id in it when an entry that is not ours has that one."""
    name = context_name(cloud, cluster)
    taken = next((entry for entry in document["clusters"] if entry["name"] == name), None)
    known = any(entry["name"] == name for section in ("users", "contexts") for entry in document[section])
    if taken is None and not known:
        return name
    if taken is not None and _is_ours(taken, {authority}, cloud.id if cloud else ""):
        return name
    if cloud is None:
        raise UserError(f"the kubeconfig has a context {name} of another cloud", hint=f"kubectl config delete-context {name}")
    base = f"{PLATFORM}-{cloud.id}"
    return f"{base}/{cluster}" if cluster else base


def _is_ours(entry: Document, trusted: set[str], cloud_id: str) -> bool:
    cluster = _part(entry, "cluster")
    authority = cluster.get("certificate-authority-data") or ""
    if authority in trusted:
        return bool(authority)
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == _MARK and cloud_id:
            mark: Mapping[str, Any] = extension.get("extension") or {}
            return mark.get("cloud") == cloud_id and mark.get("authority") == _fingerprint(authority)
    return False


def _fingerprint(authority: str) -> str:
    return hashlib.sha256(authority.encode()).hexdigest()[:16]


def _extract(document: Document, name: str) -> bytes | None:
    """One context as a kubeconfig of its own; None when what it names is missing."""
    context = _find(document, "contexts", name)
    if context is None:
        return None
    cluster = _find(document, "clusters", _part(context, "context").get("cluster"))
    user = _find(document, "users", _part(context, "context").get("user"))
    if cluster is None:
        return None
    single = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [user] if user else [],
        "contexts": [context],
        "current-context": name,
    }
    return _dump(single)


def _find(document: Document, section: str, name: str | None) -> Document | None:
    return next((entry for entry in document[section] if entry.get("name") == name), None)


def _part(entry: Document, name: str) -> Document:
    return entry.get(name) or {}


def _read_all() -> Document:
    """What kubectl would see: all files of $KUBECONFIG, where the first one that has a name wins."""
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(":") if part]
    merged = _read(Path("/dev/null"))
    for path in named or [_target()[0]]:
        document = _read(path)
        for section in _SECTIONS:
            known = {entry.get("name") for entry in merged[section]}
            merged[section] += [_absolute(section, entry, path) for entry in document[section] if entry.get("name") not in known]
        merged["current-context"] = merged.get("current-context") or document.get("current-context")
    return merged


def _absolute(section: str, entry: Document, path: Path) -> Document:
    """File names in a kubeconfig count from its folder, and the extracted one has none."""
    key = section.removesuffix("s")
    part = dict(_part(entry, key))
    for field in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if part.get(field):
            part[field] = str(path.parent.absolute() / part[field])
    return {**entry, key: part}


def _load(data: bytes) -> Any:
    return yaml.load(data, Loader=yaml.CSafeLoader)


def _dump(document: Document) -> bytes:
    return str(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)).encode()


def _read(path: Path) -> Document:
    document: Any = None
    try:
        document = _load(path.read_bytes())
    except FileNotFoundError:
        pass
    except PermissionError as e:
        raise UserError(f"{path} may not be read by you", hint="name another file in $KUBECONFIG") from e
    except yaml.YAMLError as e:
        raise UserError(f"{path} is no YAML", hint="mend it, or name another file in $KUBECONFIG") from e
    if document is None:
        document = {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    if not isinstance(document, dict) or document.get("kind", "Config") != "Config":
        raise UserError(f"{path} is no kubeconfig", hint="mend it, or name another file in $KUBECONFIG")
    for section in _SECTIONS:
        document[section] = document.get(section) or []
    return document


def _write(path: Path, document: Document, owner: tuple[int, int]) -> None:
    path = path.resolve()  # a link to where somebody keeps it stays a link
    mode = 0o600
    if path.exists():
        stat = path.stat()
        owner, mode = (stat.st_uid, stat.st_gid), stat.st_mode & 0o777
    try:
        write_atomic(path, _dump(document), mode=mode, owner=owner)
    except OSError as e:
        # Without its own text, which names the temporary file.
        raise UserError(f"{path} cannot be written: {e.strerror}", hint="name another file in $KUBECONFIG") from None


@contextmanager
def _locked(path: Path, owner: tuple[int, int]) -> Iterator[None]:
    """Hold the lock file beside the kubeconfig that client-go takes as well."""
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
        os.chown(path.parent, *owner)
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise UserError(f"{path} is locked by another program", hint=f"try again; when nothing uses it, remove {lock}") from None
            time.sleep(0.02)
        except PermissionError as e:
            raise UserError(f"{path.parent} may not be written by you", hint="name another file in $KUBECONFIG") from e
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
