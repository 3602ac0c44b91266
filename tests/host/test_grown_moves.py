"""A machine that has grown while it ran goes on in another process: what it was started with, and all that came since."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from pilvi.host.qemu.installed import has_qemu
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.backend import MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.control import MachineRefusal
from pilvi.providers.kubevirt.machines.moves import Move, MoveSettings
from pilvi.providers.kubevirt.machines.volumes import ImageDisk, VolumeDisk
from pilvi.providers.names import machine_unit
from pilvi.providers.sizing import Size
from tests.guests import guest_image
from tests.host import test_qemu_machine as machine
from tests.host.test_qemu_machine import UID, Lab

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")

lab = machine.lab
MIB = 1 << 20


def wanted(lab: Lab, *, sockets: int, memory: int, disks: Sequence[tuple[str, str]] = ()) -> MachineSpec:
    """The suite's guest with so many processors and MiB, and more disks by name and bus."""
    shown = [{"name": "root", "disk": {"bus": "virtio"}}, *({"name": name, "disk": {"bus": bus}} for name, bus in disks)]
    domain = {"cpu": {"maxSockets": 4}, "memory": {"maxGuest": "512Mi"}, "devices": {"disks": shown, "rng": {}}}
    volumes = []
    for name, _ in disks:
        path = lab.cloud.home / name
        with path.open("ab") as file:
            file.truncate(8 * MIB)
        volumes.append(VolumeDisk(name, path, 8 * MIB))
    image = guest_image().qcow2
    root = ImageDisk("root", image, "qcow2", guest_image().raw.stat().st_size)
    return dataclasses.replace(lab.spec(b""), instance={"domain": domain}, size=Size(sockets, 1, 1, memory * MIB), volumes=(root, *volumes))


async def run(lab: Lab, command: str) -> str:
    ended = await lab.backend.control.run(UID, ["/bin/sh", "-c", command], 30)
    assert ended.code == 0, ended.output
    return ended.output.strip()


async def grow(lab: Lab, spec: MachineSpec) -> None:
    """Until the machine is as wanted: the guest takes its time."""
    state: MachineState | None = None

    async def is_grown() -> bool:
        nonlocal state
        state = await lab.backend.ensure(spec)
        attached = {disk.name for disk in state.disks or () if disk.attached and not disk.detaching}
        names = {volume.name for volume in spec.volumes}
        found = (state.sockets, state.memory_bytes, attached, state.unchanged)
        return found == (spec.size.sockets, spec.size.memory_bytes, names, {})

    await wait_for(is_grown, 60, lambda: f"the machine to have grown: {state}", interval_s=0.2)


async def move(lab: Lab, spec: MachineSpec) -> None:
    moves = lab.backend.moves
    await moves.prepare(spec)
    assert await moves.must_stand_still(UID) == (lab.backend.fidelity == "Tcg"), "writes to memory that came are not seen without KVM"
    await moves.pause(UID)
    assert not await moves.must_stand_still(UID)
    await moves.begin(UID, MoveSettings())
    seen: list[Move] = []

    async def is_over() -> bool:
        seen.append(await moves.look(UID))
        return seen[-1].phase in ("completed", "failed")

    await wait_for(is_over, 60, "the guest to have moved", interval_s=0.05)
    assert seen[-1].phase == "completed", seen[-1].message
    await moves.finish(UID, resume=True)


async def has_agent(lab: Lab) -> bool:
    try:
        await lab.backend.control.agent(UID, "guest-ping")
    except MachineRefusal:
        return False
    return True


async def test_what_was_plugged_in_moves_along(lab: Lab) -> None:
    await lab.backend.ensure(wanted(lab, sockets=1, memory=256))
    await wait_for(lambda: has_agent(lab), 120, "the guest's agent", interval_s=0.2)
    disks = [("a", "virtio"), ("b", "scsi")]
    grown = wanted(lab, sockets=3, memory=384, disks=disks)
    await grow(lab, grown)
    await wait_for(lambda: _sees(lab, 3, {"vdb", "sda"}), 60, "the guest to use what came", interval_s=0.5)
    await run(lab, "echo kept >/dev/vdb; echo too >/dev/sda; sync; echo 1 >/run/mark")
    # The engine that saw it grow has died, and the next one moves it before anything else.
    await lab.end_backend()
    lab.start_backend()
    await lab.backend._guests.follow(UID, 5)
    await move(lab, grown)
    assert lab.units.state(machine_unit(UID, "b")).state == "running"
    await wait_for(lambda: has_agent(lab), 30, "the guest's agent", interval_s=0.2)
    assert await run(lab, "cat /run/mark; head -c 4 /dev/vdb; head -c 3 /dev/sda") == "1\nkepttoo"
    assert await _sees(lab, 3, {"vdb", "sda"})
    # There it grows on, gives back, and moves again.
    await grow(lab, wanted(lab, sockets=4, memory=448, disks=disks[1:]))
    await wait_for(lambda: _sees(lab, 4, {"sda"}), 60, "the guest to use what came, and let go of what went", interval_s=0.5)
    assert lab.backend.state(UID).memory_at_start_bytes == 256 * MIB
    await move(lab, wanted(lab, sockets=4, memory=448, disks=disks[1:]))
    await wait_for(lambda: has_agent(lab), 30, "the guest's agent", interval_s=0.2)
    assert await run(lab, "cat /run/mark; head -c 3 /dev/sda") == "1\ntoo"
    assert await _sees(lab, 4, {"sda"})
    await lab.backend.stop(UID, 0)
    await lab.backend.remove(UID)


async def _sees(lab: Lab, processors: int, disks: set[str]) -> bool:
    told = (await run(lab, "nproc; ls /sys/block")).split()
    return int(told[0]) == processors and {name for name in told[1:] if name.startswith(("vd", "sd"))} == {"vda", *disks}
