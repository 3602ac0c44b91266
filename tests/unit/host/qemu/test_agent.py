"""The guest agent, and guests that are no help."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut
from pilvi.host.qemu.agent import Agent, ExecResult
from pilvi.host.qemu.guestinfo import GuestAddress, GuestDisk, GuestFilesystem, GuestInterface


class Guest:
    """An agent: `commands` as in FakeQemu; `before` is what still lies in the channel, `answers` False a guest without an agent."""

    def __init__(self) -> None:
        self.commands: dict[str, Any] = {"guest-ping": {}}
        self.before = b""
        self.answers = True
        self.raw: bytes | None = None
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        writer.write(self.before)
        try:
            while line := await reader.readline():
                if self.answers:
                    self._answer(writer, json.loads(line.replace(b"\xff", b"")))
        except ConnectionError:
            pass
        writer.transport.abort()

    def _answer(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        command, arguments = message["execute"], message.get("arguments", {})
        if command == "guest-sync-delimited":
            writer.write(b"\xff" + json.dumps({"return": arguments["id"]}).encode() + b"\n")
            return
        self.asked.append((command, arguments))
        if self.raw is not None:
            writer.write(self.raw)
        elif command in self.commands:
            answer = self.commands[command]
            writer.write(json.dumps({"return": answer(arguments) if callable(answer) else answer}).encode() + b"\n")
        else:
            writer.write(json.dumps({"error": {"class": "CommandNotFound", "desc": f"no {command}"}}).encode() + b"\n")


@asynccontextmanager
async def talking(guest: Guest, path: Path) -> AsyncIterator[Agent]:
    server = await asyncio.start_unix_server(guest.serve, path)
    try:
        yield Agent("vm", path)
    finally:
        server.close()
        await asyncio.gather(*(task for task in guest.tasks if task))


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b'{"return": {}}\n',
        b'\xff{"return": 12345678901}\n',
        b"half an ans",
        b"\xff\xff\xff",
        b'\xff[1]\n\xff"x"\n',
        b"\xff" + b"[" * 100_000 + b"\n",
    ],
)
async def test_what_was_left_in_the_channel_is_no_answer(guest: Guest, path: Path, before: bytes) -> None:
    guest.before = before
    async with talking(guest, path) as agent:
        await agent.ping()
        await agent.ping()
    assert [name for name, _ in guest.asked] == ["guest-ping", "guest-ping"]


async def test_nobody_answers(guest: Guest, path: Path) -> None:
    guest.answers = False
    async with talking(guest, path) as agent:
        with pytest.raises(TimedOut, match="the agent in the guest of machine vm"):
            await agent.ping(timeout_s=0.1)


async def test_no_machine(path: Path) -> None:
    with pytest.raises(MachineUnreachable):
        await Agent("vm", path).ping()


async def test_a_refusal(guest: Guest, path: Path) -> None:
    async with talking(guest, path) as agent:
        with pytest.raises(MachineRefused, match="machine vm refused guest-info: no guest-info"):
            await agent.info()


@pytest.mark.parametrize(
    "raw",
    [
        b"\n",
        b"no json\n",
        b"[]\n",
        b"{}\n",
        b'{"error": 1}\n',
        b'{"error": {}}\n',
        b'{"return": [1]}\n',
        b'{"return": null}\n',
        b"[" * 100_000 + b"\n",
    ],
)
@pytest.mark.parametrize("ask", [Agent.info, Agent.os, Agent.interfaces, Agent.users, Agent.filesystems, Agent.hostname, Agent.freeze])
async def test_answers_that_are_none(guest: Guest, path: Path, raw: bytes, ask: Callable[[Agent], Any]) -> None:
    guest.raw = raw
    async with talking(guest, path) as agent:
        with pytest.raises(MachineRefused):
            await ask(agent)


async def test_an_answer_that_is_too_long(guest: Guest, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.host.qemu.agent._LONGEST_ANSWER_BYTES", 1000)
    guest.raw = b"x" * 5000 + b"\n"
    async with talking(guest, path) as agent:
        with pytest.raises(MachineRefused, match="guest-ping: its answer is cut off or too long"):
            await agent.ping()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=60))
async def test_no_bytes_of_a_guest_raise_anything_else(tmp_path: Path, raw: bytes) -> None:
    guest = Guest()
    guest.raw = raw + b"\n"
    path = tmp_path / "agent.sock"
    path.unlink(missing_ok=True)
    async with talking(guest, path) as agent:
        with pytest.raises(MachineRefused):
            await agent.info()


async def test_what_a_guest_tells(guest: Guest, path: Path) -> None:
    guest.commands |= {
        "guest-info": {"version": "7.2.22", "supported_commands": [{"name": "guest-ping", "enabled": True, "success-response": True}]},
        "guest-get-osinfo": {"id": "debian", "pretty-name": "Debian 12", "kernel-release": "6.1", "variant": "cloud"},
        "guest-get-host-name": {"host-name": "vm-1"},
        "guest-get-timezone": {"zone": "EET", "offset": 7200},
        "guest-get-users": [{"user": "root", "login-time": 1.5}],
        "guest-network-get-interfaces": [
            {"name": "lo"},
            {
                "name": "eth0",
                "hardware-address": "02:00:00:00:00:01",
                "ip-addresses": [{"ip-address": "10.0.0.2", "ip-address-type": "ipv4", "prefix": 24}],
                "statistics": {"rx-bytes": 1},
            },
        ],
        "guest-get-fsinfo": [
            {
                "name": "vda1",
                "mountpoint": "/",
                "type": "ext4",
                "used-bytes": 1,
                "total-bytes": 2,
                "disk": [{"bus-type": "virtio", "serial": "s"}],
            }
        ],
    }
    async with talking(guest, path) as agent:
        info = await agent.info()
        assert (info.version, [command.name for command in info.supported_commands]) == ("7.2.22", ["guest-ping"])
        system = await agent.os()
        assert (system.id, system.pretty_name, system.kernel_release) == ("debian", "Debian 12", "6.1")
        assert await agent.hostname() == "vm-1"
        assert (await agent.timezone()).offset == 7200
        assert [user.user for user in await agent.users()] == ["root"]
        address = GuestAddress(ip_address="10.0.0.2", ip_address_type="ipv4", prefix=24)
        eth0 = GuestInterface(name="eth0", hardware_address="02:00:00:00:00:01", ip_addresses=[address])
        assert await agent.interfaces() == [GuestInterface(name="lo"), eth0]
        root = GuestFilesystem(
            name="vda1", mountpoint="/", type="ext4", used_bytes=1, total_bytes=2, disk=[GuestDisk(bus_type="virtio", serial="s")]
        )
        assert await agent.filesystems() == [root]


async def test_a_program_in_the_guest(guest: Guest, path: Path) -> None:
    states = [{"exited": False}, {"exited": True, "exitcode": 3, "out-data": base64.b64encode(b"out\xff").decode(), "out-truncated": True}]
    guest.commands |= {"guest-exec": {"pid": 7}, "guest-exec-status": lambda _: states.pop(0)}
    async with talking(guest, path) as agent:
        result = await agent.run(["/bin/sh", "-c", "exit 3"], timeout_s=5, input=b"in")
    assert result == ExecResult(code=3, signal=None, stdout=b"out\xff", stderr=b"", is_truncated=True)
    assert guest.asked[0] == ("guest-exec", {"path": "/bin/sh", "arg": ["-c", "exit 3"], "capture-output": True, "input-data": "aW4="})
    assert guest.asked[1:] == [("guest-exec-status", {"pid": 7})] * 2


async def test_a_program_that_does_not_end(guest: Guest, path: Path) -> None:
    guest.commands |= {"guest-exec": {"pid": 7}, "guest-exec-status": {"exited": False}}
    async with talking(guest, path) as agent:
        with pytest.raises(TimedOut):
            await agent.run(["/bin/sleep", "9"], timeout_s=0.3)


async def test_output_that_is_no_base64(guest: Guest, path: Path) -> None:
    guest.commands |= {"guest-exec": {"pid": 7}, "guest-exec-status": {"exited": True, "exitcode": 0, "out-data": "%%%"}}
    async with talking(guest, path) as agent:
        with pytest.raises(MachineRefused):
            await agent.run(["/bin/true"], timeout_s=1)


async def test_what_is_done_to_a_guest(guest: Guest, path: Path) -> None:
    names = ["guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
    guest.commands |= dict.fromkeys(names, 2) | {"guest-fsfreeze-status": "frozen", "guest-set-user-password": {}}
    guest.commands |= {"guest-ssh-add-authorized-keys": {}, "guest-ssh-get-authorized-keys": {"keys": ["ssh-ed25519 A"]}}
    async with talking(guest, path) as agent:
        assert await agent.freeze() == 2
        assert await agent.is_frozen() is True
        assert await agent.thaw() == 2
        await agent.set_password("root", "näin")
        await agent.set_ssh_keys("root", ["ssh-ed25519 A"])
        assert await agent.ssh_keys("root") == ["ssh-ed25519 A"]
        guest.raw = b""  # a guest that is going down says nothing
        await agent.reboot()
    assert guest.asked[3:] == [
        ("guest-set-user-password", {"username": "root", "password": base64.b64encode("näin".encode()).decode(), "crypted": False}),
        ("guest-ssh-add-authorized-keys", {"username": "root", "keys": ["ssh-ed25519 A"], "reset": True}),
        ("guest-ssh-get-authorized-keys", {"username": "root"}),
        ("guest-shutdown", {"mode": "reboot"}),
    ]


async def test_commands_take_turns(guest: Guest, path: Path) -> None:
    async with talking(guest, path) as agent:
        await asyncio.gather(*(agent.ping() for _ in range(20)))
    assert len(guest.asked) == 20
