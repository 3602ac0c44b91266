"""Probes: what they ask, how answers count, and what one try sees."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
from aiohttp import web

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instance.probes.attempt import Target, attempt
from pilvi.providers.kubevirt.instance.probes.probe import AskHttp, AskPort, Ping, Probe, Run, Tally, read_probe
from pilvi.providers.kubevirt.machines.control import MachineRefusal, SandboxControl
from pilvi.providers.kubevirt.machines.guest import GuestExit

PORT = {"tcpSocket": {"port": 80}}


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ({"exec": {"command": ["test", "-e", "/ready"]}}, Run(("test", "-e", "/ready"))),
        ({"guestAgentPing": {}}, Ping()),
        ({"tcpSocket": {"port": "22"}}, AskPort(22)),
        ({"httpGet": {"port": 80}}, AskHttp(80)),
        (
            {"httpGet": {"port": 443, "scheme": "HTTPS", "path": "up?x=1", "httpHeaders": [{"name": "Host", "value": "web"}]}},
            AskHttp(443, "https", "/up?x=1", (("Host", "web"),)),
        ),
    ],
)
def test_what_is_asked(given: JsonObject, action: object) -> None:
    assert read_probe({"readinessProbe": given}, "readinessProbe") == Probe(action, 0, 10, 1, 1, 3)  # type: ignore[arg-type]


def test_numbers_and_none() -> None:
    numbers = {"initialDelaySeconds": 5, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4}
    assert read_probe({"livenessProbe": {**PORT, **numbers}}, "livenessProbe") == Probe(AskPort(80), 5, 2, 3, 1, 4)
    assert read_probe({}, "readinessProbe") is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "nothing to ask"),
        ({**PORT, "guestAgentPing": {}}, "guestAgentPing and tcpSocket"),
        ({"exec": {}}, "exec.command is empty"),
        ({"tcpSocket": {"port": "http"}}, "port is 'http'"),
        ({"tcpSocket": {"port": 70000}}, "port is 70000"),
        ({"httpGet": {"port": 80, "host": "169.254.169.254"}}, "host is not supported"),
        ({**PORT, "periodSeconds": -1}, "negative"),
        ({**PORT, "successThreshold": 2}, "successThreshold is 2"),
    ],
)
def test_what_is_refused(given: JsonObject, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_probe({"livenessProbe": given}, "livenessProbe")


def test_answers_count_in_a_row() -> None:
    tally = Tally(Probe(Ping(), 0, 10, 1, successes=2, failures=3), good=False)
    assert [(tally.count(answer), tally.good) for answer in (None, "no", None, None, None)] == [
        (False, False),
        (False, False),
        (False, False),
        (True, True),
        (False, True),
    ]
    assert [(tally.count("no"), tally.good) for _ in range(4)] == [(False, True), (False, True), (True, False), (False, False)]
    assert tally.count("still no"), "another trouble is told"
    assert tally.trouble == "still no"


class Control(SandboxControl):
    """A guest whose agent ends programs as told; `code` None is a guest that never answers."""

    def __init__(self, code: int | None = 0, *, refuses: bool = False) -> None:
        self.code, self.refuses = code, refuses
        self.ran: list[tuple[str, ...]] = []

    async def run(self, uid: str, argv: Sequence[str], timeout_s: float) -> GuestExit:
        self.ran.append(tuple(argv))
        if self.code is None:
            await asyncio.sleep(3600)
        return GuestExit(self.code, "what it said\n")

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        if self.refuses:
            raise MachineRefusal("no guest agent answers in the machine", hint="install it")
        return {}


def target(control: Control | None = None) -> Target:
    return Target("uid", control or Control(), None, IPv4Address("127.0.0.1"))


def probe(action: Any, timeout_s: float = 5.0) -> Probe:
    return Probe(action, 0, 10, timeout_s, 1, 3)


async def test_programs_and_pings() -> None:
    control = Control()
    assert await attempt(probe(Run(("true", "1"))), target(control)) is None
    assert control.ran == [("true", "1")]
    assert await attempt(probe(Run(("false",))), target(Control(1))) == "false ended with exit code 1: what it said"
    assert "timed out" in str(await attempt(probe(Run(("sleep",)), 0.05), target(Control(None))))
    assert await attempt(probe(Ping()), target()) is None
    assert "no guest agent" in str(await attempt(probe(Ping()), target(Control(refuses=True))))


@asynccontextmanager
async def page(status: int, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append({"path": request.path_qs, **{name: request.headers[name] for name in ("Host", "X-Probe") if name in request.headers}})
        headers = {"Location": "http://192.0.2.1/"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    assert site._server is not None
    try:
        yield site._server.sockets[0].getsockname()[1], seen  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("status", "good"), [(200, True), (302, True), (404, False), (500, False)])
async def test_pages(status: int, good: bool) -> None:
    async with page(status) as (port, seen):
        answer = await attempt(probe(AskHttp(port, path="/up?x=1", headers=(("Host", "web"), ("X-Probe", "yes")))), target())
    assert (answer is None) == good, answer
    assert seen == [{"path": "/up?x=1", "Host": "web", "X-Probe": "yes"}]
    assert good or str(status) in str(answer)


async def test_a_header_that_is_none_is_a_failure() -> None:
    assert await attempt(probe(AskHttp(80, headers=(("X-Probe", "a\r\nb"),))), target()) is not None


async def test_ports() -> None:
    async with page(200) as (port, _):
        assert await attempt(probe(AskPort(port)), target()) is None
    assert "refused" in str(await attempt(probe(AskPort(port)), target()))
    assert await attempt(probe(AskHttp(port)), target()) is not None
