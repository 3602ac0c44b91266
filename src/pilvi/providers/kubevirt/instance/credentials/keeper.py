"""Has the agents of guests put keys and passwords in place, and keep them in step with their Secrets while the machine runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import TimedOut, UserError, format_chain
from pilvi.providers.kubevirt.instance.credentials.credential import Wanted, find_credentials, read_wanted
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.tasks import MachineTasks
from pilvi.providers.kubevirt.machines.control import MachineControl, MachineRefusal
from pilvi.runtime import condition, find_condition

__all__ = ["SYNCHRONIZED", "CredentialKeeper"]

SYNCHRONIZED = "AccessCredentialsSynchronized"
_NAME = "accessCredentials"
# KubeVirt's: somebody in the guest may have changed what was put there, and a user may come later.
_AGAIN_S = 300.0
_RETRY_S = 15.0


class CredentialKeeper:
    """`wake` is called after what has come of it for an instance has changed."""

    def __init__(self, caches: Caches, tasks: MachineTasks, wake: Callable[[Key], None]) -> None:
        self._secrets = caches.secrets
        self._tasks = tasks
        self._wake = wake
        self._outcomes: dict[str, tuple[Wanted, str]] = {}  # UID -> for what, and what went wrong

    def look(self, scope: Scope, control: MachineControl, *, agent: bool) -> JsonObject | None:
        """Have done what is not; returns the condition, None for an instance of which nothing is asked or known yet."""
        credentials = find_credentials(scope.vmi)
        if not credentials.by_agent:
            return None
        if not agent:
            self._tasks.end(scope.key, _NAME)  # it may be another guest that comes next
            return condition(
                SYNCHRONIZED, False, "AgentNotConnected", "no guest agent answers; install and start qemu-guest-agent in the guest"
            )
        try:
            wanted = read_wanted(credentials, self._secrets.get)
        except UserError as e:
            self._tasks.end(scope.key, _NAME)
            return condition(SYNCHRONIZED, False, "InvalidSecret", format_chain(e))
        key, uid = scope.key, scope.uid
        self._tasks.keep(key, _NAME, wanted, lambda: self._keep(key, uid, control, wanted))
        done_for, trouble = self._outcomes.get(uid, (None, ""))
        if done_for != wanted:
            return find_condition(scope.vmi, SYNCHRONIZED)
        return condition(SYNCHRONIZED, False, "AgentFailed", trouble) if trouble else condition(SYNCHRONIZED, True, "Synchronized")

    def forget(self, uid: str) -> None:
        """The instance is over; its tasks have been ended."""
        self._outcomes.pop(uid, None)

    async def _keep(self, key: Key, uid: str, control: MachineControl, wanted: Wanted) -> None:
        passwords = dict(wanted.passwords)
        while True:
            troubles = [await _try(user, _set_keys(control, uid, user, keys)) for user, keys in wanted.keys]
            for user, password in list(passwords.items()):
                troubles.append(await _try(user, _set_password(control, uid, user, password)))
                if troubles[-1] is None:
                    del passwords[user]  # once: a user who changes the password keeps it
            outcome = (wanted, "; ".join(trouble for trouble in troubles if trouble))
            if self._outcomes.get(uid) != outcome:
                self._outcomes[uid] = outcome
                self._wake(key)
            await asyncio.sleep(_RETRY_S if outcome[1] else _AGAIN_S)


async def _try(user: str, work: Any) -> str | None:
    try:
        await work
    except (MachineRefusal, TimedOut) as e:
        return f"user {user}: {format_chain(e)}"
    return None


async def _set_keys(control: MachineControl, uid: str, user: str, keys: tuple[str, ...]) -> None:
    """These keys and no other ones, as KubeVirt does it; nothing is written when they are there."""
    try:
        answer = await control.agent(uid, "guest-ssh-get-authorized-keys", {"username": user})
    except MachineRefusal:
        answer = None  # the file is not there yet, or worse, which the next command tells
    if not isinstance(answer, dict) or answer.get("keys") != list(keys):
        await control.agent(uid, "guest-ssh-add-authorized-keys", {"username": user, "keys": list(keys), "reset": True})


async def _set_password(control: MachineControl, uid: str, user: str, password: str) -> None:
    encoded = base64.b64encode(password.encode()).decode()
    await control.agent(uid, "guest-set-user-password", {"username": user, "password": encoded, "crypted": False})
