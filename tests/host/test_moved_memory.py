"""A guest that writes all the time arrives with all that it has written, without KVM too (`pilvi.host.qemu.tracking`)."""

from __future__ import annotations

import dataclasses

import pytest

from pilvi.host.qemu.installed import has_qemu
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.moves import MoveSettings
from pilvi.providers.sizing import Size
from tests.host import test_qemu_machine as machine
from tests.host.test_qemu_machine import UID, Lab
from tests.images.bootsector import LOST, counting_disk

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")

lab = machine.lab
# Half a MiB is written anew all the time, so what is left never fits into the time that the guest may stand still.
SETTINGS = MoveSettings(bandwidth_bytes=4 << 20, downtime_ms=20)
ROUNDS_BYTES = 6 << 20


@pytest.mark.parametrize("memory_mib", [32, 33])
async def test_nothing_that_a_guest_writes_while_it_moves_is_lost(lab: Lab, memory_mib: int) -> None:
    spec = dataclasses.replace(lab.spec(counting_disk()), size=Size(1, 1, 1, memory_mib << 20))
    await lab.backend.ensure(spec)
    await wait_for(lambda: "." in lab.serial(), 30, "the guest to count")
    moves = lab.backend.moves
    await moves.prepare(spec)
    assert not await moves.must_stand_still(UID)
    await moves.begin(UID, SETTINGS)

    async def has_copied_it_often() -> bool:
        move = await moves.look(UID)
        assert move.phase == "running", "a guest that writes that much does not arrive by itself"
        return move.copied_bytes > ROUNDS_BYTES

    async def has_moved() -> bool:
        return (await moves.look(UID)).phase == "completed"

    await wait_for(has_copied_it_often, 60, "some rounds")
    await moves.pause(UID)
    await wait_for(has_moved, 30, "the guest to arrive")
    counted = lab.serial()
    await moves.finish(UID, resume=True)
    await wait_for(lambda: len(lab.serial()) > len(counted) + 3 or LOST in lab.serial(), 30, "the guest to count on")
    assert LOST not in lab.serial()
