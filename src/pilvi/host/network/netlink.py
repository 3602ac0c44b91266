"""The one place that opens pyroute2: a netlink socket inside a namespace, and its errors as ours.

pyroute2 takes half a second to import, so it is loaded with the first socket. Its own way into a namespace forks a process; a
socket made while the thread is inside stays there and costs nothing.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pilvi.errors import DriverError
from pilvi.host.netns import in_netns

__all__ = ["NO_SUCH_LINK", "netlink", "refused"]

NO_SUCH_LINK = (errno.ENODEV, errno.ENOENT)


@asynccontextmanager
async def netlink(netns: str | None) -> AsyncIterator[Any]:
    """An open `pyroute2.AsyncIPRoute` in that namespace. Raises FileNotFoundError when there is no such namespace."""
    # In a thread, because the loop has other things to do for half a second. Later calls find it loaded.
    pyroute2 = await asyncio.to_thread(importlib.import_module, "pyroute2")
    with in_netns(netns):
        # IPRoute takes the descriptor over; it is closed with it.
        descriptor = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE).detach()
    async with pyroute2.AsyncIPRoute(fileno=descriptor, ext_ack=True) as ip:
        yield ip


@contextmanager
def refused(what: str, netns: str | None, ignore: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn a netlink error of the block into DriverError that says what was tried; errno values in `ignore` are success."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as e:
        if e.code in ignore:
            return
        where = f"namespace {netns}" if netns else "the host's namespace"
        raise DriverError(("ip", *what.split()), e.code, "", f"the kernel refused `{what}` in {where}: {e.args[1]}") from e
