"""Console, screen and ports of a machine, as web sockets.

The machine's end is dialled before the request becomes a web socket: so a refusal is still a Status that clients print.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.errors import BadRequest, Conflict
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.instance.network import NoLeg, plan_legs
from pilvi.providers.kubevirt.instance.scope import Caches
from pilvi.providers.kubevirt.machines.backend import MachineLeg
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, phase_of, refuse_instance
from pilvi.providers.kubevirt.subresources.peers import Peer, dial_console, dial_socket, dial_tcp, dial_udp
from pilvi.providers.kubevirt.subresources.sessions import InUse, Sessions
from pilvi.providers.kubevirt.subresources.splice import Ending, carry, close, open_stream
from pilvi.runtime import is_true

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["StreamHandlers"]

_DIALS = {"tcp": dial_tcp, "udp": dial_udp}


class StreamHandlers:
    """The handlers, by the names of the subresources."""

    def __init__(self, platform: Platform, objects: Objects) -> None:
        self._cloud = platform.cloud
        self._caches = Caches(platform.informers)
        self._objects = objects
        self._sessions = Sessions()

    async def console(self, request: web.Request) -> web.StreamResponse:
        """GET console: a web socket. The newest connection has it."""
        vmi = await self._objects.get_instance(key_of(request))
        if _device(vmi, "autoattachSerialConsole") is False:
            raise refuse_instance(BadRequest, vmi, "it has no serial console, as autoattachSerialConsole says")
        if phase_of(vmi) == "Failed":
            raise refuse_instance(Conflict, vmi, "it has failed")
        _check_running(vmi)
        path = self._objects.control_of(vmi).console(_uid(vmi))
        return await self._take(request, vmi, "console", dial_console, path)

    async def screen(self, request: web.Request) -> web.StreamResponse:
        """GET vnc: a web socket. The newest connection has it, unless it asks with `preserveSession` not to disturb anybody."""
        vmi = await self._get_screen(request)
        path = self._objects.control_of(vmi).screen(_uid(vmi))
        polite = _read_flag(request, "preserveSession")
        return await self._take(request, vmi, "screen", dial_socket, path, polite=polite)

    async def screenshot(self, request: web.Request) -> web.Response:
        """GET vnc/screenshot: a PNG."""
        vmi = await self._get_screen(request)
        control = self._objects.control_of(vmi)
        if _read_flag(request, "moveCursor"):
            raise refuse_instance(BadRequest, vmi, "its screen is not woken by moving the cursor; ask without moveCursor")
        return web.Response(body=await control.screenshot(_uid(vmi)), content_type="image/png")

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """GET portforward of an instance: a web socket. One for each connection; any number at a time."""
        return await self._forward(request, await self._objects.get_instance(key_of(request)))

    async def forward_machine(self, request: web.Request) -> web.StreamResponse:
        """GET portforward of a VirtualMachine: the same with its instance."""
        return await self._forward(request, await self._objects.get_instance_of(key_of(request)))

    async def _forward(self, request: web.Request, vmi: JsonObject) -> web.StreamResponse:
        port = _read_port(request.match_info["port"])
        protocol = request.match_info.get("protocol", "tcp")
        if protocol not in _DIALS:
            raise refusal(BadRequest, f"protocol {protocol!r} is neither tcp nor udp")
        if is_true(vmi, "Paused"):
            raise refuse_instance(Conflict, vmi, "it is paused")
        leg = self._get_leg(vmi)
        what = f"{protocol} port {port} of machine {Key.of(vmi)} ({leg.address.ip})"
        dial = _DIALS[protocol]
        stream, ending = await _stream(request, dial(leg.netns, leg.address.ip, port, what), asyncio.Event())
        return await close(request, stream, ending)

    async def _take(
        self,
        request: web.Request,
        vmi: JsonObject,
        what: str,
        dial: Callable[[Path, str], Awaitable[Peer]],
        path: Path,
        *,
        polite: bool = False,
    ) -> web.StreamResponse:
        try:
            async with self._sessions.alone((_uid(vmi), what), polite=polite) as replaced:
                stream, ending = await _stream(request, dial(path, f"the {what} of machine {Key.of(vmi)}"), replaced)
        except InUse:
            raise refuse_instance(Conflict, vmi, f"somebody uses its {what}; ask without preserveSession to take over") from None
        # Whoever comes next need not wait for this client's goodbye.
        return await close(request, stream, ending)

    def _get_leg(self, vmi: JsonObject) -> MachineLeg:
        scope = self._caches.find_scope(Key.of(vmi))
        legs = NoLeg("it is new") if scope is None else plan_legs(self._cloud, scope.links, running=True) or NoLeg("it is in no network")
        if isinstance(legs, NoLeg):
            raise refuse_instance(Conflict, vmi, f"it cannot be reached: {legs.message}")
        return next((leg for leg in legs if leg.is_default), legs[0])

    async def _get_screen(self, request: web.Request) -> JsonObject:
        vmi = await self._objects.get_instance(key_of(request))
        if _device(vmi, "autoattachGraphicsDevice") is False:
            raise refuse_instance(BadRequest, vmi, "it has no screen, as autoattachGraphicsDevice says")
        _check_running(vmi)
        return vmi


async def _stream(request: web.Request, dialling: Awaitable[Peer], replaced: asyncio.Event) -> tuple[web.WebSocketResponse, Ending]:
    async with aclosing(await dialling) as peer:
        stream = await open_stream(request)
        return stream, await carry(stream, peer, replaced)


def _check_running(vmi: JsonObject) -> None:
    # 400 as upstream: virtctl then waits for the machine.
    if phase_of(vmi) != "Running":
        raise refuse_instance(BadRequest, vmi, "it is not running")


def _device(vmi: JsonObject, name: str) -> object:
    return ((vmi["spec"].get("domain") or {}).get("devices") or {}).get(name)


def _uid(vmi: JsonObject) -> str:
    return str(vmi["metadata"]["uid"])


def _read_port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise refusal(BadRequest, f"{text!r} is no port: a number from 1 to 65535")
    return int(text)


def _read_flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", "t", "f"):
        raise refusal(BadRequest, f"{name} is {text!r}; write true or false")
    return text in ("true", "1", "t")
