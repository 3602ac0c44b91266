"""Machines that can move, for tests: a move is done as soon as it has begun, unless a test says otherwise."""

from __future__ import annotations

from pilvi.errors import MachineUnreachable
from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.kubevirt.machines.moves import MachineMoves, Move, MoveSettings
from tests.unit.providers.kubevirt.fake_machines import FakeMachines


class FakeMoves(MachineMoves):
    """Two processes of each machine as two words: `guest` says in which one it is."""

    def __init__(self) -> None:
        self.guest: dict[str, str] = {}
        self.second: dict[str, str] = {}
        self.settings: MoveSettings | None = None
        self.progress = Move("completed", total_ms=120, downtime_ms=20, copied_bytes=1 << 20)
        self.refusal: Exception | None = None
        self.pause_failures = 0
        self.paused = self.resumed = False
        self.loses_writes = False
        self.outcome = Move("completed", total_ms=1)

    async def prepare(self, spec: MachineSpec) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.second[spec.uid] = "waits"

    async def must_stand_still(self, uid: str) -> bool:
        return self.loses_writes and not self.paused

    async def begin(self, uid: str, settings: MoveSettings) -> None:
        assert self.second.get(uid), "nobody waits for the guest"
        self.settings = settings
        self.second[uid] = "copies"

    async def look(self, uid: str) -> Move:
        if uid not in self.second:
            return Move("none")
        return self.progress if self.second[uid] == "copies" else Move("prepared")

    async def pause(self, uid: str) -> None:
        if self.pause_failures:
            self.pause_failures -= 1
            raise MachineUnreachable("nobody answers")
        self.paused, self.resumed = True, False
        self.progress = self.outcome

    async def finish(self, uid: str, *, resume: bool = False) -> None:
        self.resumed = self.resumed or resume
        if self.second.pop(uid, None) is not None:
            self.guest[uid] = "second"

    async def abandon(self, uid: str, *, resume: bool = False) -> bool:
        if self.second.pop(uid, None) == "copies" and self.progress.phase == "completed":
            self.guest[uid] = "second"
            return True
        self.resumed = self.resumed or resume
        return False


class MovableMachines(FakeMachines):
    fidelity = "Tcg"

    def __init__(self) -> None:
        super().__init__()
        self.moves: FakeMoves = FakeMoves()

    async def kill(self, uid: str) -> None:
        self.calls.append("kill")
        self.states.pop(uid, None)
        self.moves.second.pop(uid, None)
