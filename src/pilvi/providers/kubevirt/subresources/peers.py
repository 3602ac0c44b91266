"""The machine's end of a stream: a Unix socket of the machine, or a port of its address, dialled from inside its Vpc.

A peer reads and writes pieces of bytes and never holds more than a few of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from pilvi.errors import PilviError, TimedOut
from pilvi.host.netns import in_netns

__all__ = ["Peer", "dial_console", "dial_socket", "dial_tcp", "dial_udp"]

PIECE_BYTES = 10_240
"""As in KubeVirt's streams."""
CONSOLE_REST_S = 0.005
"""A serial port hands over 16 bytes at a time, and each piece costs all who pass it on as much as a large one. Nobody sees 5 ms."""
DIAL_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 2.0
DATAGRAMS = 64
"""So many wait for a slow reader at most; more are lost, as on any network."""


class Peer(Protocol):
    """One connection to a machine. `read` and `write` raise OSError when it breaks."""

    async def read(self) -> bytes:
        """The next piece; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Hand over a piece; waits while the machine takes none."""

    async def aclose(self) -> None:
        """Let go of it; what was written still gets there, unless the machine takes too long. May be called again."""


async def dial_console(path: Path, what: str) -> Peer:
    """Like `dial_socket`, for the socket of a serial port, which says a few bytes at a time."""
    return await dial_socket(path, what, rest_s=CONSOLE_REST_S)


async def dial_socket(path: Path, what: str, *, rest_s: float = 0.0) -> Peer:
    """A connection to the Unix socket of a machine; `what` is how errors call it. Raises PilviError, TimedOut.

    With `rest_s` there is so much time after a piece that is not full: what comes meanwhile is one piece.
    """
    async with _dialling(what):
        return _StreamPeer(*await asyncio.open_unix_connection(path, limit=PIECE_BYTES), rest_s=rest_s)


async def dial_tcp(netns: str | None, address: IPv4Address, port: int, what: str) -> Peer:
    """A connection to a port of a machine, from inside that network namespace. Raises PilviError, TimedOut."""
    async with _dialling(what):
        connection = _new_socket(netns, socket.SOCK_STREAM)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
            return _StreamPeer(*await asyncio.open_connection(sock=connection, limit=PIECE_BYTES))
        except BaseException:
            connection.close()
            raise


async def dial_udp(netns: str | None, address: IPv4Address, port: int, what: str) -> Peer:
    """Datagrams to and from a port of a machine: one piece is one datagram. Raises PilviError."""
    async with _dialling(what):
        connection = _new_socket(netns, socket.SOCK_DGRAM)
        try:
            connection.connect((str(address), port))  # of a datagram socket: it does not wait
            return _DatagramPeer(*await asyncio.get_running_loop().create_datagram_endpoint(_Arrivals, sock=connection))
        except BaseException:
            connection.close()
            raise


class _StreamPeer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest_s: float = 0.0) -> None:
        self._reader = reader
        self._writer = writer
        self._rest_s = rest_s
        self._next_read = 0.0

    async def read(self) -> bytes:
        if self._rest_s:
            await asyncio.sleep(self._next_read - time.monotonic())  # no time at all when it has been quiet
        piece = await self._reader.read(PIECE_BYTES)
        if len(piece) < PIECE_BYTES:
            self._next_read = time.monotonic() + self._rest_s
        return piece

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def aclose(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


class _DatagramPeer:
    def __init__(self, transport: asyncio.DatagramTransport, arrivals: _Arrivals) -> None:
        self._transport = transport
        self._arrivals = arrivals

    async def read(self) -> bytes:
        # An empty datagram would look like the end.
        while not (arrived := await self._arrivals.queue.get()):
            pass
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    async def write(self, data: bytes) -> None:
        self._transport.sendto(data)

    async def aclose(self) -> None:
        self._transport.close()


class _Arrivals(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception] = asyncio.Queue(DATAGRAMS)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._put(data)

    def error_received(self, exc: Exception) -> None:
        self._put(exc)

    def _put(self, arrived: bytes | Exception) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.queue.put_nowait(arrived)


@asynccontextmanager
async def _dialling(what: str) -> AsyncIterator[None]:
    """Says what was dialled when that fails."""
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            yield
    except TimeoutError as e:
        raise TimedOut(f"{what} to answer", DIAL_TIMEOUT_S) from e
    except OSError as e:
        raise PilviError(f"{what} does not answer") from e


def _new_socket(netns: str | None, kind: socket.SocketKind) -> socket.socket:
    """A socket stays in the namespace where it was made."""
    with in_netns(netns):
        made = socket.socket(socket.AF_INET, kind)
    made.setblocking(False)
    return made
