"""What is followed of the guests under QEMU: their agents that come and go, and the disk that is full."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from pilvi.host.cloud import Cloud
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.instance.attendants import can_answer
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.kubevirt.machines.qemu import room
from pilvi.providers.kubevirt.machines.qemu.domain import sockets_of
from pilvi.providers.kubevirt.machines.qemu.guests import Guests
from pilvi.providers.kubevirt.machines.qemu.room import NO_ROOM, has_room
from pilvi.providers.kubevirt.machines.qemu.slots import Slots
from tests.unit.host.qemu.fake_qmp import FakeQemu, listening
from tests.unit.host.qemu.test_agent import Guest
from tests.unit.providers.kubevirt.test_guest_facts import ANSWERS

UID = "6a1f0000-1111-2222-3333-444444444444"


class Lab:
    """One machine whose QEMU and agent say what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.cloud = Cloud(
            id="abcde",
            home=folder,
            run=folder / "run",
            range=IPv4Network("10.250.0.0/24"),
            transit=IPv4Network("100.64.0.0/22"),
            uid_base=5000,
            uid_count=100,
        )
        sockets = sockets_of(self.cloud, UID)
        sockets.folder.mkdir(parents=True)
        self.qemu, self.guest = FakeQemu(sockets.monitor), Guest()
        self.guest.commands |= ANSWERS
        self.agent_path = sockets.agent
        self.has_agent, self.status, self.io_status, self.woken = False, "running", "ok", 0
        self.qemu.commands = {
            "query-status": lambda _: {"status": self.status},
            "query-chardev": lambda _: [{"label": "agent", "frontend-open": self.has_agent}],
            "query-block": lambda _: [{"device": "", "io-status": self.io_status}, {"device": "cd"}],
            "cont": self.cont,
        }
        self.guests = Guests(self.cloud, Slots(self.cloud))
        self.guests.subscribe(self._wake)

    def cont(self, _arguments: Any) -> Any:
        self.status = "running"
        self.qemu.event("RESUME")
        return {}

    def _wake(self, uid: str) -> None:
        assert uid == UID
        self.woken += 1

    @property
    def state(self) -> MachineState:
        return self.guests.describe(UID, None)

    async def until(self, predicate: Any, what: str) -> None:
        await wait_for(lambda: predicate(self.state), 30, what)


@asynccontextmanager
async def lab_in(folder: Path) -> AsyncIterator[Lab]:
    lab = Lab(folder)
    server = await asyncio.start_unix_server(lab.guest.serve, lab.agent_path)
    async with listening(lab.qemu):
        running = asyncio.create_task(lab.guests.run([UID]))
        try:
            await lab.until(lambda state: state.phase == "running", "the machine to be heard of")
            yield lab
        finally:
            running.cancel()
            await asyncio.wait([running])
            server.close()
            await asyncio.gather(*(task for task in lab.guest.tasks if task))


async def test_an_agent_that_comes_tells_and_goes(tmp_path: Path) -> None:
    async with lab_in(tmp_path) as lab:
        assert (lab.state.agent, lab.state.guest, lab.state.guest_os) == (False, None, {})
        lab.has_agent = True
        lab.qemu.event("VSERPORT_CHANGE")
        await lab.until(lambda state: state.guest is not None, "what the agent tells")
        assert (lab.state.agent, lab.state.guest_os["id"]) == (True, "debian")
        assert lab.guests.agent(UID) is lab.guests.agent(UID), "all that talk with it wait for each other"
        woken = lab.woken
        lab.has_agent = False
        lab.qemu.event("VSERPORT_CHANGE")
        await lab.until(lambda state: not state.agent, "the agent to go")
        assert (lab.state.guest, lab.state.guest_os, lab.woken > woken) == (None, {}, True)


async def test_before_anything_is_heard_nobody_knows_of_an_agent(tmp_path: Path) -> None:
    assert Lab(tmp_path).state.agent is None


async def test_a_guest_whose_memory_is_written_runs_but_answers_no_probe(tmp_path: Path) -> None:
    async with lab_in(tmp_path) as lab:
        assert can_answer(lab.state)
        lab.status = "save-vm"
        lab.qemu.event("STOP")
        await lab.until(lambda state: state.reason == "MemoryDump", "the dump to be seen")
        assert lab.state.phase == "running"
        assert not can_answer(lab.state)
        lab.cont({})
        await lab.until(can_answer, "the guest to go on")


@pytest.fixture
def free_mib(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much is free on the disk of the home; changed by tests."""
    free = [100]
    monkeypatch.setattr(room, "_LOOK_S", 0.01)

    def statvfs(_path: object) -> os.statvfs_result:
        return os.statvfs_result((1 << 20, 1 << 20, 10_000, free[0], free[0], 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    return free


async def test_a_guest_without_room_goes_on_when_there_is_some(tmp_path: Path, free_mib: list[int]) -> None:
    async with lab_in(tmp_path) as lab:
        free_mib[0] = 63
        lab.status, lab.io_status = "io-error", "nospace"
        lab.qemu.event("STOP")
        await lab.until(lambda state: state.message == NO_ROOM, "the full disk to be told")
        assert (lab.state.phase, lab.state.reason) == ("paused", "PausedIOError")
        # Somebody lets it go on too early: it comes to stand still again, which is no news.
        lab.cont({})
        lab.status = "io-error"
        lab.qemu.event("STOP")
        await asyncio.sleep(0.1)
        assert lab.state.message == NO_ROOM
        free_mib[0] = 64
        await lab.until(lambda state: state.phase == "running", "the guest to go on")
        assert lab.state.message == ""


async def test_another_error_of_a_disk_waits_for_people(tmp_path: Path, free_mib: list[int]) -> None:
    async with lab_in(tmp_path) as lab:
        lab.status, lab.io_status = "io-error", "failed"
        lab.qemu.event("STOP")
        await lab.until(lambda state: state.reason == "PausedIOError", "the error to be told")
        assert "then unpause" in lab.state.message
        await asyncio.sleep(0.1)
        assert "cont" not in [command for command, _ in lab.qemu.asked]


def test_a_small_disk_needs_a_share_and_a_missing_folder_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path / "not there")
    for free, enough in ((49, False), (50, True)):
        monkeypatch.setattr(os, "statvfs", lambda _, free=free: os.statvfs_result((4096, 4096, 1000, free, free, 0, 0, 0, 0, 255)))
        assert has_room(tmp_path) == enough


async def test_a_guest_that_is_thawed_is_not_thawed_again_later(tmp_path: Path) -> None:
    class Frozen:
        asked = 0

        async def is_frozen(self) -> bool:
            self.asked += 1
            return False

    async with lab_in(tmp_path) as lab:
        frozen = Frozen()
        lab.guests.thaw_later("a", frozen, 0.0)  # type: ignore[arg-type]
        lab.guests.thaw_no_more("a")
        lab.guests.thaw_later("a", frozen, 60.0)  # type: ignore[arg-type]
        lab.guests.thaw_later("a", frozen, 0.0)  # type: ignore[arg-type]
        await wait_for(lambda: bool(frozen.asked), 30, "the last of them to be carried out")
        assert frozen.asked == 1
