"""The commands of virtual machines, against a fake API server that also has a console."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import termios
import tty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web

from pilvi.api import JsonObject, Key
from pilvi.cli.vm.console import attach, raw_terminal
from pilvi.cli.vm.stream import open_stream
from pilvi.errors import Conflict, TimedOut
from tests.fake_api import FakeApi, status_response
from tests.unit.cli.conftest import Invoke, kubeconfig_of
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi

MACHINE = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/web"
INSTANCE = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachineinstances/web"
SUBRESOURCES = "/apis/subresources.kubevirt.io/v1/namespaces/shop"
TIMEOUT_S = 10.0


class MachineApi(FakeApi):
    """Takes subresources, and answers each stream with what it was told, in capitals."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Any]] = []
        self.refuses = False

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(SUBRESOURCES):
            return await super()._handle(request)
        verb = request.path.rpartition("/")[2]
        if self.refuses:
            return status_response(409, "Conflict")
        if request.method == "PUT":
            self.asked.append((verb, await request.json()))
            self._act(verb)
            return web.Response(status=202)
        stream = web.WebSocketResponse(protocols=("plain.kubevirt.io",))
        await stream.prepare(request)
        async for message in stream:
            assert message.type is WSMsgType.BINARY
            if message.data == b"end":
                await stream.close(code=1008, message=b"another connection has taken over")
            else:
                await stream.send_bytes(message.data.upper())
        return stream

    def _act(self, verb: str) -> None:
        if verb in ("stop", "restart") and INSTANCE in self.objects:
            self.remove(INSTANCE)
        if verb in ("start", "restart"):
            self.put(INSTANCE, make_vmi("Running"))


@pytest_asyncio.fixture
async def cloud(user: Path) -> AsyncIterator[MachineApi]:
    api = MachineApi()
    await api.start()
    user.write_bytes(kubeconfig_of(api, "pilvi"))
    api.put(MACHINE, make_vm("Manual", printableStatus="Running", ready=True))
    yield api
    await api.stop()


def running(**status: Any) -> JsonObject:
    return make_vmi("Running", interfaces=[{"ipAddress": "10.9.0.5"}], nodeName="host", **status)


async def test_list(invoke: Invoke, cloud: MachineApi) -> None:
    cloud.put(INSTANCE, running())
    lines = (await invoke("vm", "list")).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["NAMESPACE", "NAME", "STATUS", "READY", "ADDRESS", "NODE"],
        ["shop", "web", "Running", "yes", "10.9.0.5", "host"],
    ]
    row = {"namespace": "shop", "name": "web", "status": "Running", "ready": True, "address": "10.9.0.5", "node": "host"}
    assert json.loads((await invoke("vm", "list", "-n", "shop", "-o", "json")).stdout) == [row]
    assert "no virtual machines" in (await invoke("vm", "list", "-n", "empty")).stderr


async def test_describe(invoke: Invoke, cloud: MachineApi) -> None:
    conditions = [{"type": "Paused", "status": "True", "reason": "PausedByUser", "message": "it stands still"}]
    cloud.put(INSTANCE, running(conditions=conditions, guestOSInfo={"prettyName": "Debian 12"}))
    text = (await invoke("vm", "describe", "shop/web")).stdout
    for part in (
        "Status   Running",
        "Strategy Manual",
        "Address  10.9.0.5",
        "System   Debian 12",
        "Paused   True     PausedByUser   it stands",
    ):
        assert part in text
    document = json.loads((await invoke("vm", "describe", "shop/web", "-o", "json")).stdout)
    assert (document["machine"]["kind"], document["instance"]["kind"]) == ("VirtualMachine", "VirtualMachineInstance")


@pytest.mark.parametrize(
    ("command", "verb", "body", "says"),
    [
        (["start"], "start", {}, "runs."),
        (["start", "--no-wait"], "start", {}, "is asked to start."),
        (["stop"], "stop", {}, "is off."),
        (["stop", "--force"], "stop", {"gracePeriod": 0}, "is off."),
        (["restart"], "restart", {}, "runs again."),
        (["restart", "--force", "--no-wait"], "restart", {"gracePeriodSeconds": 0}, "is asked to start again."),
        (["pause"], "pause", {}, "stands still."),
        (["unpause"], "unpause", {}, "goes on."),
    ],
)
async def test_buttons(invoke: Invoke, cloud: MachineApi, command: list[str], verb: str, body: JsonObject, says: str) -> None:
    cloud.put(INSTANCE, running())
    result = await invoke("vm", *command, "shop/web")
    assert result.exit_code == 0, result.output
    assert cloud.asked == [(verb, body)]
    assert result.stdout == f"Machine shop/web {says}\n"


async def test_a_machine_that_does_not_stop(invoke: Invoke, cloud: MachineApi, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.put(INSTANCE, running())
    monkeypatch.setattr(cloud, "_act", lambda _verb: None)
    result = await invoke("vm", "stop", "web", "-n", "shop", "--timeout", "0.4")
    assert isinstance(result.exception, TimedOut)
    assert result.exception.hint == "pilvi vm describe shop/web"


async def test_a_machine_that_does_not_start_says_why(invoke: Invoke, cloud: MachineApi, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = {"type": "Ready", "status": "False", "reason": "FailedAttachVolume", "message": "its disk is in use by another"}
    monkeypatch.setattr(cloud, "_act", lambda _verb: cloud.put(INSTANCE, make_vmi("Scheduled", conditions=[ready])))
    result = await invoke("vm", "start", "shop/web", "--timeout", "1.4")
    assert str(result.exception) == "timed out after 1.4 s waiting for machine shop/web to start: its disk is in use by another"
    assert "… start shop/web: its disk is in use by another (1 s)" in result.stderr


@pytest.mark.parametrize("command", ["describe", "start", "stop", "restart", "pause", "unpause", "console", "vnc"])
async def test_a_machine_that_is_not_there(invoke: Invoke, cloud: MachineApi, command: str) -> None:
    assert str((await invoke("vm", command, "other")).exception) == "there is no virtual machine default/other"


async def test_a_refusal_is_shown(invoke: Invoke, cloud: MachineApi) -> None:
    cloud.refuses = True
    for command in ("start", "console"):
        result = await invoke("vm", command, "shop/web")
        assert isinstance(result.exception, Conflict)
        assert "made to fail with 409" in str(result.exception)


# The console


async def test_a_conversation_and_the_way_out(cloud: MachineApi, tmp_path: Path) -> None:
    terminal, keyboard = os.openpty()
    shown, screen = os.pipe()
    try:
        tty.setraw(keyboard)
        async with open_stream(tmp_path, Key("shop", "web"), "console", TIMEOUT_S) as stream:
            attached = asyncio.create_task(attach(stream, keyboard, screen))
            os.write(terminal, b"hello\x03")
            assert await asyncio.to_thread(os.read, shown, 100) == b"HELLO\x03", "Ctrl-C is the guest's"
            os.write(terminal, b"bye\x1dnot this")
            async with asyncio.timeout(TIMEOUT_S):
                assert await attached == ""
    finally:
        for descriptor in (terminal, keyboard, shown, screen):
            os.close(descriptor)


async def test_why_the_other_side_has_ended_it(cloud: MachineApi, tmp_path: Path) -> None:
    source, typed = os.pipe()
    try:
        async with open_stream(tmp_path, Key("shop", "web"), "console", TIMEOUT_S) as stream:
            os.write(typed, b"end")
            async with asyncio.timeout(TIMEOUT_S):
                assert await attach(stream, source, 1) == "another connection has taken over"
    finally:
        os.close(source)
        os.close(typed)


def test_the_terminal_is_as_before() -> None:
    terminal, keyboard = os.openpty()
    try:
        before = termios.tcgetattr(keyboard)
        with raw_terminal(keyboard):
            assert not termios.tcgetattr(keyboard)[3] & termios.ICANON
        assert termios.tcgetattr(keyboard) == before
    finally:
        os.close(terminal)
        os.close(keyboard)


async def test_the_screen_on_a_local_port(invoke: Invoke, cloud: MachineApi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = asyncio.create_task(invoke("vm", "vnc", "shop/web", "--port", str(port)))
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        writer.write(b"rfb 003.008")
        assert await reader.read(100) == b"RFB 003.008"
        writer.close()
        await writer.wait_closed()
        result = await command
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"port": port}
