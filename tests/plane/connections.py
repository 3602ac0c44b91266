"""The end of a listener in a process that goes on: its connections end as those of a process that ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from pilvi.lib.deadline import wait_for

TIMEOUT_S = 60.0


async def end_serving(tasks: Collection[asyncio.Task[Any]], listener: socket.socket) -> None:
    """Cancel `tasks`, one of which serves `listener`, and end what was accepted there; returns when this loop has let go of all of it.

    What they raised is left in the tasks.
    """
    address = listener.getsockname()
    # Python before 3.12 forgets a connection, without closing it, that it has accepted and not looked at yet when the listener closes.
    asyncio.get_running_loop().remove_reader(listener)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    # The end of a listener leaves out connections whose TLS handshake is not through, and an API server keeps those for good.
    with _accepted(address) as connections:
        for connection in connections:
            with suppress(OSError):  # the other side was faster
                connection.shutdown(socket.SHUT_RDWR)
    await wait_for(lambda: not _has_accepted(address), TIMEOUT_S, "the connections to end", interval_s=0.01)


def _has_accepted(address: tuple[str, int]) -> bool:
    with _accepted(address) as connections:
        return bool(connections)


@contextmanager
def _accepted(address: tuple[str, int]) -> Iterator[list[socket.socket]]:
    """Copies of this process's sockets with that address, which is a listener's that has ended."""
    with ExitStack() as copies:
        found = [copies.enter_context(copy) for name in os.listdir("/proc/self/fd") for copy in _copies(int(name))]
        yield [copy for copy in found if copy.family == socket.AF_INET and copy.getsockname() == address]


def _copies(fd: int) -> Iterator[socket.socket]:
    """A copy of the socket, if it is one and still open."""
    with suppress(OSError):
        copy = os.dup(fd)
        try:
            yield socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
