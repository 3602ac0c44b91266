"""Carries bytes between a web socket and a machine, as KubeVirt's clients speak: sub-protocol `plain.kubevirt.io`, binary messages.

Each direction has at most one piece in hand, beside what the sockets of both ends hold: who reads slowly stops the other side, and
memory does not grow. Whichever end closes first ends the stream, after what it sent before has got through.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from pilvi.errors import BadRequest
from pilvi.providers.aggregation import OPEN_STREAMS, refusal
from pilvi.providers.kubevirt.subresources.peers import Peer

__all__ = ["PROTOCOL", "Ending", "carry", "close", "open_stream"]


PROTOCOL = "plain.kubevirt.io"
# Messages are pieces of 10 or 32 KiB; who sends larger ones keeps no measure.
LARGEST_MESSAGE = 1 << 20
# For whatever stands between the API server and the user and hangs up on silence. A dead peer is TCP's to notice.
PING_S = 10.0
GOODBYE_S = 3.0


@dataclass(frozen=True)
class Ending:
    """How a stream ended: what the client is told, if it still listens."""

    code: WSCloseCode
    message: str


CLIENT_LEFT = Ending(WSCloseCode.OK, "")
MACHINE_CLOSED = Ending(WSCloseCode.OK, "the machine has closed the connection")
MACHINE_BROKE = Ending(WSCloseCode.INTERNAL_ERROR, "the connection to the machine broke")
TOO_LARGE = Ending(WSCloseCode.MESSAGE_TOO_BIG, f"messages have at most {LARGEST_MESSAGE} bytes")
REPLACED = Ending(WSCloseCode.POLICY_VIOLATION, "another connection has taken over")


async def open_stream(request: web.Request) -> web.WebSocketResponse:
    """Make the request a web socket. Raises BadRequest when it does not ask for one. `close` ends it."""
    stream = web.WebSocketResponse(
        protocols=(PROTOCOL,), compress=False, max_msg_size=LARGEST_MESSAGE, timeout=GOODBYE_S, autoping=True, decode_text=False
    )
    if not stream.can_prepare(request).ok:
        raise refusal(BadRequest, "this is a stream: ask for it as a web socket, as virtctl and `pilvi vm` do")
    await stream.prepare(request)
    request.app[OPEN_STREAMS].add(stream)
    return stream


async def carry(stream: web.WebSocketResponse, peer: Peer, replaced: asyncio.Event) -> Ending:
    """Carry bytes both ways until one end closes or breaks, or `replaced` is set. Leaves both open."""
    tasks = [asyncio.ensure_future(part) for part in (_to_client(stream, peer), _from_client(stream, peer), _ping(stream), _wait(replaced))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # What the machine said last counts more than that the client has gone.
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def close(request: web.Request, stream: web.WebSocketResponse, ending: Ending) -> web.WebSocketResponse:
    """Tell the client how it ended; one that does not listen any more is left after a moment. Returns the stream, for the server."""
    request.app[OPEN_STREAMS].discard(stream)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(GOODBYE_S):
            await stream.close(code=ending.code, message=ending.message.encode(), drain=False)
    return stream


async def _to_client(stream: web.WebSocketResponse, peer: Peer) -> Ending:
    while True:
        try:
            data = await peer.read()
        except OSError:
            return MACHINE_BROKE
        if not data:
            return MACHINE_CLOSED
        try:
            await stream.send_bytes(data)
        except OSError:
            return CLIENT_LEFT


async def _from_client(stream: web.WebSocketResponse, peer: Peer) -> Ending:
    async for message in stream:
        if message.type is WSMsgType.BINARY:  # text means nothing here, as upstream
            try:
                await peer.write(message.data)
            except OSError:
                return MACHINE_BROKE
    return TOO_LARGE if stream.close_code == WSCloseCode.MESSAGE_TOO_BIG else CLIENT_LEFT


async def _ping(stream: web.WebSocketResponse) -> Ending:
    while True:
        await asyncio.sleep(PING_S)
        try:
            await stream.ping()
        except OSError:
            return CLIENT_LEFT


async def _wait(replaced: asyncio.Event) -> Ending:
    await replaced.wait()
    return REPLACED
