"""A backend whose machines change while they run, and whose guests may hold on to their disks."""

from __future__ import annotations

import dataclasses

from pilvi.providers.kubevirt.machines.backend import DiskState, MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.volumes import VolumeDisk
from tests.unit.providers.kubevirt.fake_machines import FakeMachines


class HotMachines(FakeMachines):
    name = "qemu"
    fidelity = "Tcg"
    fidelity_message = "for tests"

    def __init__(self) -> None:
        super().__init__()
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
