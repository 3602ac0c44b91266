"""A guest that writes while the host's disk is full: a real small file system, and a boot sector that writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from io import FileIO
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.host.qemu.installed import has_qemu
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.qemu import room
from pilvi.providers.kubevirt.machines.qemu.room import NO_ROOM, has_room
from tests.host.test_qemu_machine import UID, Lab, small_lab
from tests.images.bootsector import boot_disk

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")


@pytest_asyncio.fixture
async def small(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(room, "_LOOK_S", 0.1)
    async with small_lab() as lab:
        yield lab


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        write_for_ever(file)


def write_for_ever(file: FileIO) -> None:
    while True:
        file.write(bytes(4096))


async def test_it_stands_still_until_there_is_room(small: Lab) -> None:
    spec = small.spec(boot_disk("now it writes", write=True))
    spec = replace(spec, instance={**spec.instance, "startStrategy": "Paused"})
    await small.backend.ensure(spec)
    await small.until("paused")
    assert small.backend.state(UID).reason == "PausedByUser"
    much = small.cloud.home / "much"
    fill(much)
    assert not has_room(small.cloud.home)
    await small.backend.control.resume(UID)

    def says_so() -> bool:
        state = small.backend.state(UID)
        return (state.phase, state.reason, state.message) == ("paused", "PausedIOError", NO_ROOM)

    await wait_for(says_so, 30, "the guest to be paused for want of room")
    # The next engine finds it so, and somebody who lets it go on too early changes nothing.
    await small.end_backend()
    small.start_backend()
    await wait_for(says_so, 30, "the next engine to see it")
    await small.backend.control.resume(UID)
    await wait_for(says_so, 30, "the guest to be paused again")
    much.unlink()
    await small.until("running")
    await small.backend.stop(UID, 0)
    await small.backend.remove(UID)
