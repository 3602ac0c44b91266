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

from pilvi.errors import DriverError, TimedOut
from pilvi.host.netns import in_netns

__all__ = ["NO_SUCH_LINK", "netlink", "refused"]

# The kernel answers in microseconds; a host under heavy load may take its time to run us.
ANSWER_TIMEOUT_S = 30.0
NO_SUCH_LINK = (errno.ENODEV, errno.ENOENT)

# Not sys.modules, which has a module before its import is through.
_loaded: dict[str, Any] = {}


@asynccontextmanager
async def netlink(netns: str | None) -> AsyncIterator[Any]:
    """An open `pyroute2.AsyncIPRoute` in that namespace, for a few requests.

    Raises FileNotFoundError when there is no such namespace, TimedOut when the block takes longer than `ANSWER_TIMEOUT_S`: an answer that
    is lost on the way would be awaited for ever.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S) as deadline:
            pyroute2: Any = _loaded.get("pyroute2") or await asyncio.to_thread(_load)
            with in_netns(netns):
                # IPRoute takes the descriptor over; it is closed with it.
                descriptor = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE).detach()
            async with pyroute2.AsyncIPRoute(fileno=descriptor, ext_ack=True) as ip:
                yield ip
    except TimeoutError as e:
        if not deadline.expired():
            raise
        raise TimedOut(f"the kernel to answer in {_words(netns)}", ANSWER_TIMEOUT_S) from e


@contextmanager
def refused(what: str, netns: str | None, ignore: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn a netlink error of the block into DriverError that says what was tried; errno values in `ignore` are success."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        yield
    except NetlinkError as e:
        if e.code in ignore:
            return
        raise DriverError(("ip", *what.split()), e.code, "", f"the kernel refused `{what}` in {_words(netns)}: {e.args[1]}") from e


def _load() -> Any:
    """Runs in a thread, because the loop has other things to do for half a second. Once: a socket must not wait for a free thread."""
    return _loaded.setdefault("pyroute2", importlib.import_module("pyroute2"))


def _words(netns: str | None) -> str:
    return f"namespace {netns}" if netns else "the host's namespace"
