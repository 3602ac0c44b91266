"""The monitor against servers that are slow, mute, broken or away."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from pathlib import Path

import pytest

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut
from pilvi.host.qemu import monitor as module
from pilvi.host.qemu.status import CONNECTED, DISCONNECTED, Event, GuestStatus
from pilvi.lib.deadline import wait_for
from tests.unit.host.qemu.fake_qmp import FakeQemu, listening, watching


@pytest.fixture
def qemu(tmp_path: Path) -> FakeQemu:
    return FakeQemu(tmp_path / "qmp.sock")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    """Warnings are errors: tasks and sockets that are left over show when they are collected."""
    gc.collect()


async def test_status_and_commands(qemu: FakeQemu) -> None:
    async with listening(qemu), watching(qemu) as (monitor, _):
        assert await monitor.query_status() is GuestStatus.RUNNING
        qemu.commands |= {name: {} for name in ("cont", "stop", "system_powerdown", "system_reset", "set_link")}
        await monitor.cont()
        await monitor.stop()
        await monitor.power_down()
        await monitor.reset()
        await monitor.set_link("nic-a", is_up=False)
        assert [name for name, _ in qemu.asked[1:]] == ["cont", "stop", "system_powerdown", "system_reset", "set_link"]
        assert qemu.asked[-1][1] == {"name": "nic-a", "up": False}


@pytest.mark.parametrize("status", list(GuestStatus))
async def test_every_status(qemu: FakeQemu, status: GuestStatus) -> None:
    qemu.commands["query-status"] = {"status": str(status)}
    async with listening(qemu), watching(qemu) as (monitor, _):
        found = await monitor.query_status()
    assert found is status
    assert found.is_over is (status in ("shutdown", "guest-panicked", "internal-error"))


@pytest.mark.parametrize("answer", [{"status": "dancing"}, {}, []])
async def test_a_status_that_nobody_knows(qemu: FakeQemu, answer: object) -> None:
    qemu.commands["query-status"] = answer
    async with listening(qemu), watching(qemu) as (monitor, _):
        with pytest.raises(MachineRefused, match="query-status"):
            await monitor.query_status()


async def test_a_refusal_is_in_qemus_words(qemu: FakeQemu) -> None:
    async with listening(qemu), watching(qemu) as (monitor, _):
        with pytest.raises(MachineRefused, match="machine vm refused cont: no cont"):
            await monitor.cont()


async def test_events_come_and_none_is_kept(qemu: FakeQemu) -> None:
    async with listening(qemu), watching(qemu) as (monitor, events):
        await monitor.query_status()
        qemu.event("SHUTDOWN", guest=True)
        await wait_for(lambda: len(events) == 2, 30, "the event")
        assert events == [Event(CONNECTED), Event("SHUTDOWN", {"guest": True})]
        client = monitor._client
        assert client is not None
        assert client.events.empty()
        assert client.events.history == ()
    assert events[-1] == Event(DISCONNECTED)


async def test_it_dials_again_when_the_connection_breaks(qemu: FakeQemu) -> None:
    async with listening(qemu), watching(qemu) as (monitor, events):
        await monitor.query_status()
        qemu.hang_up()
        await wait_for(lambda: qemu.connections == 2, 30, "a second connection")
        assert await monitor.query_status() is GuestStatus.RUNNING
        assert events == [Event(CONNECTED), Event(DISCONNECTED), Event(CONNECTED)]


async def test_it_waits_for_a_qemu_that_is_not_there_yet(qemu: FakeQemu) -> None:
    async with watching(qemu) as (monitor, _):
        asked = asyncio.create_task(monitor.query_status())
        await asyncio.sleep(0.1)
        assert not asked.done()
        async with listening(qemu):
            assert await asked is GuestStatus.RUNNING


async def test_nobody_there(qemu: FakeQemu) -> None:
    async with watching(qemu) as (monitor, events):
        with pytest.raises(MachineUnreachable, match="cannot be reached"):
            await monitor.execute("query-status", timeout_s=0.2)
        assert events == []


async def test_a_command_that_is_not_answered(qemu: FakeQemu) -> None:
    qemu.mute.add("query-block")
    async with listening(qemu), watching(qemu) as (monitor, _):
        began = time.monotonic()
        with pytest.raises(TimedOut, match="query-block"):
            await monitor.execute("query-block", timeout_s=0.2)
        assert time.monotonic() - began < 10
        # The others are still answered, on the same connection.
        assert await monitor.query_status() is GuestStatus.RUNNING
        assert qemu.connections == 1


async def test_a_qemu_that_never_greets(qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DIAL_TIMEOUT_S", 0.1)
    qemu.greets = False
    async with listening(qemu), watching(qemu) as (monitor, events):
        with pytest.raises(MachineUnreachable, match="its greeting"):
            await monitor.execute("query-status", timeout_s=0.5)
        assert events == []
        qemu.greets = True
        assert await monitor.query_status() is GuestStatus.RUNNING


async def test_what_stays_unanswered_is_bounded(qemu: FakeQemu) -> None:
    qemu.mute.add("query-block")
    async with listening(qemu), watching(qemu) as (monitor, _):
        await monitor.query_status()
        for _ in range(40):
            with pytest.raises((TimedOut, MachineUnreachable)):
                await monitor.execute("query-block", timeout_s=0.01)
        await wait_for(lambda: qemu.connections > 1, 30, "a fresh connection")
        assert await monitor.query_status() is GuestStatus.RUNNING


async def test_a_hung_qemu_with_full_buffers_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It reads nothing any more, and what was written waits in the socket and in front of it."""
    first_read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake = FakeQemu(tmp_path)
        fake._write(writer, {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}})
        await reader.readuntil(b"}")
        fake._write(writer, {"return": {}})
        await writer.drain()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await first_read.wait()
        writer.transport.abort()

    qemu = FakeQemu(tmp_path / "qmp.sock")
    server = await asyncio.start_unix_server(serve, qemu.path)
    try:
        async with watching(qemu) as (monitor, _):
            large = {"text": "x" * 3_000_000}
            results = await asyncio.gather(
                *(monitor.execute("query-block", large, timeout_s=0.5) for _ in range(5)), return_exceptions=True
            )
            assert {type(result) for result in results} == {TimedOut}
            began = time.monotonic()
        assert time.monotonic() - began < 10
    finally:
        first_read.set()
        server.close()


@pytest.mark.parametrize("text", [b"no json\r\n", b'{"error": {}}\r\n', b"[]\r\n", b'{"return": 1, "id": "unknown"}\r\n', b"\xff\xfe\r\n"])
async def test_nonsense_between_answers(qemu: FakeQemu, text: bytes) -> None:
    async with listening(qemu), watching(qemu) as (monitor, _):
        await monitor.query_status()
        qemu.say(text)

        async def answers() -> bool:
            try:
                return await monitor.query_status() is GuestStatus.RUNNING
            except MachineUnreachable:
                return False

        await wait_for(answers, 30, "an answer after nonsense")


async def test_quit_of_a_qemu_that_ends_before_it_answers(qemu: FakeQemu) -> None:
    qemu.commands["quit"] = lambda _: qemu.hang_up()
    async with listening(qemu), watching(qemu) as (monitor, _):
        await monitor.quit()


async def test_a_device_is_gone_when_the_guest_says_so(qemu: FakeQemu) -> None:
    qemu.commands["device_del"] = {}
    async with listening(qemu), watching(qemu) as (monitor, _):
        await monitor.query_status()
        removal = asyncio.create_task(monitor.remove_device("disk-a"))
        await wait_for(lambda: ("device_del", {"id": "disk-a"}) in qemu.asked, 30, "device_del")
        qemu.event("DEVICE_DELETED", device="disk-b", path="/machine/peripheral/disk-b")
        qemu.event("DEVICE_DELETED", path="/machine/peripheral/disk-a/virtio-backend")
        await asyncio.sleep(0.05)
        assert not removal.done()
        qemu.event("DEVICE_DELETED", device="disk-a", path="/machine/peripheral/disk-a")
        await removal


async def test_a_guest_that_keeps_a_device(qemu: FakeQemu) -> None:
    qemu.commands["device_del"] = {}
    async with listening(qemu), watching(qemu) as (monitor, _):
        await monitor.query_status()
        with pytest.raises(TimedOut, match="let go of disk-a"):
            await monitor.remove_device("disk-a", timeout_s=0.1)
        removal = asyncio.create_task(monitor.remove_device("disk-a"))
        await wait_for(lambda: len(qemu.asked) == 3, 30, "device_del")
        qemu.event("DEVICE_UNPLUG_GUEST_ERROR", device="disk-a", path="/machine/peripheral/disk-a")
        with pytest.raises(MachineRefused, match="does not let go"):
            await removal


async def test_it_is_quiet(qemu: FakeQemu, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with watching(qemu) as (monitor, _):
        await asyncio.sleep(0.2)
        async with listening(qemu):
            await monitor.query_status()
            qemu.say(b"nonsense\r\n")
            await wait_for(lambda: qemu.connections == 2, 30, "a second connection")
    assert [record for record in caplog.records if record.name.startswith("qemu")] == []
