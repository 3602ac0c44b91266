"""A backend whose machines change while they run, and whose guests may hold on to their disks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pilvi.providers.kubevirt.machines.backend import DiskState, MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.dumps import MachineDump, MachineDumps
from pilvi.providers.kubevirt.machines.volumes import VolumeDisk
from tests.unit.providers.kubevirt.fake_machines import FakeMachines


class FakeDumps(MachineDumps):
    """Dumps that end when a test says so; `ends` is how the next one does."""

    def __init__(self) -> None:
        self.disks: list[Path] = []
        self.writing = self.begun = False
        self.ends: MachineDump | None = MachineDump("completed")
        self.failure: OSError | None = None

    async def is_busy(self, uid: str) -> bool:
        return self.writing

    async def prepare(self, uid: str, disk: Path, size_bytes: int) -> None:
        assert not self.writing, "emptied under a dump"
        if self.failure is not None:
            raise self.failure
        self.begun = False

    async def advance(self, uid: str, disk: Path) -> MachineDump:
        if not self.begun:
            self.disks.append(disk)
        self.begun = True
        self.writing = self.ends is None
        return self.ends or MachineDump("running")


class HotMachines(FakeMachines):
    name = "qemu"
    fidelity = "Tcg"
    fidelity_message = "for tests"

    def __init__(self) -> None:
        super().__init__()
        self.dumps: FakeDumps = FakeDumps()
        self.holds_on = False
        self.at_start: dict[str, int] = {}

    async def ensure(self, spec: MachineSpec) -> MachineState:
        before = self.state(spec.uid).disks or ()
        await super().ensure(spec)
        wanted = {volume.name: volume for volume in spec.volumes}
        disks = [
            DiskState(name, target="vda", size_bytes=volume.size_bytes if isinstance(volume, VolumeDisk) else None)
            for name, volume in wanted.items()
        ]
        if self.holds_on:
            disks += [dataclasses.replace(disk, detaching=True) for disk in before if disk.name not in wanted]
        self.states[spec.uid] = dataclasses.replace(
            self.states[spec.uid],
            disks=tuple(disks),
            sockets=spec.size.sockets,
            memory_at_start_bytes=self.at_start.setdefault(spec.uid, spec.size.memory_bytes),
            memory_bytes=spec.size.memory_bytes,
        )
        return self.states[spec.uid]

    def let_go(self) -> None:
        """The guests let go of what they shall."""
        self.holds_on = False
        for uid in self.states:
            self.changed(uid)
