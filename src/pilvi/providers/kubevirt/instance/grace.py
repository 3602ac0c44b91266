"""Stops a machine within a grace that may become shorter meanwhile: a second deletion with another period, or one by force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["stop_within"]

LOOK_S = 1.0


async def stop_within(stop: Callable[[float], Coroutine[Any, Any, None]], grace_s: Callable[[], float]) -> None:
    """Run `stop(seconds)` to its end. Whenever `grace_s()` has become less than what it was begun with, begin again with what is left.

    `grace_s` counts from now and is asked once a second. Raises what `stop` raises; has cancelled it when cancelled.
    """
    loop = asyncio.get_running_loop()
    started, grace = loop.time(), grace_s()
    left = grace
    while True:
        stopping = asyncio.ensure_future(stop(left))
        try:
            while not stopping.done() and grace_s() >= grace:
                await asyncio.wait([stopping], timeout=LOOK_S)
        finally:
            if not stopping.done():
                stopping.cancel()
                await asyncio.wait([stopping])
        if not stopping.cancelled():
            stopping.result()
            return
        grace = grace_s()
        left = max(0.0, started + grace - loop.time())
