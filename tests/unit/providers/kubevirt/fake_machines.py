"""A backend whose machines run as soon as they are asked for, and which remembers what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from pilvi.errors import UnitFailed
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.control import SandboxControl
from pilvi.providers.sizing import Size


class FakeMachines(MachineBackend):
    name = "sandbox"
    fidelity = "Sandbox"
    fidelity_message = "for tests"

    def __init__(self) -> None:
        self.control = SandboxControl()
        self.states: dict[str, MachineState] = {}
        self.specs: dict[str, MachineSpec] = {}
        self.layers: set[str] = set()
        self.calls: list[str] = []
        self.failure: Exception | None = None
        self.removal_failure: Exception | None = None
        self.first_boot: int | None = 0
        self.deaf = False  # the guests do not power off by themselves
        self.undying: set[str] = set()

    def overhead_bytes(self, size: Size) -> int:
        return 0

    async def ensure(self, spec: MachineSpec) -> MachineState:
        self.calls.append("ensure")
        if self.failure is not None:
            raise self.failure
        self.specs[spec.uid] = spec
        self.layers.add(spec.uid)
        if self.state(spec.uid).phase == "absent":
            self.states[spec.uid] = MachineState("running", datetime(2026, 1, 1, tzinfo=UTC), first_boot=self.first_boot)
        return self.states[spec.uid]

    def state(self, uid: str) -> MachineState:
        return self.states.get(uid, MachineState("absent"))

    def subscribe(self, changed: Callable[[str], None]) -> None:
        self.changed = changed

    async def run(self) -> None:
        return

    async def stop(self, uid: str, grace_s: float) -> None:
        self.calls.append(f"stop {grace_s:g}")
        if self.deaf:
            await asyncio.sleep(grace_s)
        if uid in self.undying:
            raise UnitFailed(uid, "has processes that cannot be killed")
        self.states.pop(uid, None)

    async def remove(self, uid: str) -> None:
        assert uid not in self.states, "removed under a running machine"
        self.calls.append("remove")
        if self.removal_failure is not None:
            raise self.removal_failure
        self.layers.discard(uid)

    async def list_uids(self) -> list[str]:
        return sorted(self.layers)
