"""All that is done beside machines that run: probes, and credentials that their agents keep. One call of a pass, one at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.instance.credentials.keeper import SYNCHRONIZED, CredentialKeeper
from pilvi.providers.kubevirt.instance.probes.attempt import Target
from pilvi.providers.kubevirt.instance.probes.prober import Prober
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.tasks import MachineTasks
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineLeg, MachineState
from pilvi.runtime import EventRecorder, find_condition

__all__ = ["Attendants", "Attended", "can_answer"]


@dataclass(frozen=True)
class Attended:
    """What has come of it: why the machine is not ready although it runs, and conditions of the instance."""

    unready: str = ""
    conditions: tuple[JsonObject, ...] = ()


class Attendants:
    """`wake`, which whoever runs the passes sets, is called with the key of an instance of which something new is to be said."""

    def __init__(self, caches: Caches, events: EventRecorder) -> None:
        self.wake: Callable[[Key], None] | None = None
        self._tasks = MachineTasks()
        self._events = events
        self._prober = Prober(self._tasks, self._tell)
        self._keeper = CredentialKeeper(caches, self._tasks, self._tell)
        self._uids: dict[Key, str] = {}

    async def run(self) -> None:
        """Do what passes ask for; has to run. Ends only by cancellation."""
        await self._tasks.run()

    def look(self, scope: Scope, backend: MachineBackend, leg: MachineLeg | None, machine: MachineState) -> Attended:
        """Attend to a machine whose process runs, and say how it stands; `leg` is the one by which it is reached."""
        if self._uids.setdefault(scope.key, scope.uid) != scope.uid:
            self.end(scope.key)
            self._uids[scope.key] = scope.uid
        where = (leg.netns, leg.address.ip) if leg is not None else (None, None)
        target = Target(scope.uid, backend.control, *where)
        unready = self._prober.look(scope, target, machine.started_at, lambda: can_answer(backend.state(scope.uid)))
        synchronized = self._keeper.look(scope, backend.control, agent=bool(machine.agent))
        if synchronized is not None:
            self._record(scope, synchronized)
        return Attended(unready, (synchronized,) if synchronized is not None else ())

    def find_death(self, scope: Scope) -> str | None:
        """Why the instance has to end as failed; None when it may go on."""
        return self._prober.find_death(scope)

    def end(self, key: Key) -> None:
        """The instance is over, or goes."""
        self._tasks.end(key)
        if (uid := self._uids.pop(key, None)) is not None:
            self._prober.forget(uid)
            self._keeper.forget(uid)

    def _tell(self, key: Key) -> None:
        if self.wake is not None:
            self.wake(key)

    def _record(self, scope: Scope, found: JsonObject) -> None:
        before = find_condition(scope.vmi, SYNCHRONIZED) or {}
        if (before.get("status"), before.get("message") or "") == (found["status"], found.get("message") or ""):
            return
        if found["status"] == "True":
            self._events.record(scope.vmi, "Normal", "AccessCredentialsSyncSuccess", "Access credentials sync successful.")
        else:
            self._events.record(scope.vmi, "Warning", "AccessCredentialsSyncFailed", f"Access credentials sync failed: {found['message']}")


def can_answer(machine: MachineState) -> bool:
    """Whether the guest can answer a probe: one that runs may stand still all the same, and then there is a reason."""
    return machine.phase == "running" and not machine.reason
