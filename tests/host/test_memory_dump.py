"""The memory of machines in disks of claims, written by real QEMUs that may not reach them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.errors import MachineRefused, NoSpace
from pilvi.host.disks import allocated_bytes
from pilvi.host.qemu.installed import has_qemu
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.dumps import MachineDump
from pilvi.providers.kubevirt.machines.moves import MoveSettings
from tests.host import test_qemu_machine as machine
from tests.host.test_qemu_machine import UID, Lab, small_lab
from tests.images.bootsector import boot_disk

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")

lab = machine.lab
MIB = 1 << 20
SIZE = 132 * MIB
WORD = "what the guest has in mind"


@pytest_asyncio.fixture
async def small() -> AsyncIterator[Lab]:
    async with small_lab() as lab:
        yield lab


def claim_disk(lab: Lab) -> Path:
    """Root's, in a folder that only root enters."""
    disk = lab.cloud.home / "volumes" / "pvc-1" / "disk.img"
    disk.parent.mkdir(mode=0o700, parents=True)
    with disk.open("wb") as file:
        file.truncate(SIZE)
    disk.chmod(0o600)
    return disk


async def start(lab: Lab) -> None:
    assert (await lab.backend.ensure(lab.spec(boot_disk(WORD)))).phase == "running"
    await wait_for(lambda: WORD in lab.serial(), 30, "the guest's word")


async def end_of_dump(lab: Lab, disk: Path) -> MachineDump:
    seen: list[MachineDump] = []

    async def is_over() -> bool:
        seen.append(await lab.backend.dumps.advance(UID, disk))
        return seen[-1].phase != "running"

    await wait_for(is_over, 30, "the dump to end", interval_s=0.02)
    return seen[-1]


async def test_the_memory_is_there_and_the_guest_goes_on(lab: Lab) -> None:
    await start(lab)
    disk, dumps = claim_disk(lab), lab.backend.dumps
    for engine in range(2):
        await dumps.prepare(UID, disk, SIZE)
        assert await dumps.advance(UID, disk) == MachineDump("running")
        if engine:  # the one that began it has died
            await lab.end_backend()
            lab.start_backend()
            await lab.backend.ensure(lab.spec(boot_disk(WORD)))
        assert await end_of_dump(lab, disk) == MachineDump("completed")
        written = disk.read_bytes()
        assert written[:4] == b"\x7fELF"
        assert WORD.encode() in written
        assert len(written) == SIZE
        assert allocated_bytes(disk) >= 32 * MIB
        await lab.until("running")
        dumps = lab.backend.dumps
    await lab.backend.control.pause(UID)
    await dumps.prepare(UID, disk, SIZE)
    assert await end_of_dump(lab, disk) == MachineDump("completed")
    await lab.until("paused")
    await lab.backend.kill(UID)
    assert not await dumps.is_busy(UID)


async def test_a_full_disk_ends_it_and_is_empty_again(small: Lab) -> None:
    await start(small)
    disk, dumps = claim_disk(small), small.backend.dumps
    with pytest.raises(NoSpace):
        await dumps.prepare(UID, disk, SIZE)
    await dumps.prepare(UID, disk, 0)  # somebody else takes the room afterwards
    failed = await end_of_dump(small, disk)
    assert (failed.phase, "is full" in failed.message) == ("failed", True)
    assert (allocated_bytes(disk), disk.stat().st_size) == (0, SIZE)
    await small.until("running")


async def test_a_machine_that_moves_is_asked_later(lab: Lab) -> None:
    await start(lab)
    disk, dumps = claim_disk(lab), lab.backend.dumps
    await dumps.prepare(UID, disk, SIZE)
    await lab.backend.moves.prepare(lab.spec(boot_disk(WORD)))
    await lab.backend.moves.begin(UID, MoveSettings(bandwidth_bytes=8 << 10, downtime_ms=1))
    with pytest.raises(MachineRefused, match="migration"):
        await dumps.advance(UID, disk)
    assert not await lab.backend.moves.abandon(UID)
    assert await end_of_dump(lab, disk) == MachineDump("completed")
