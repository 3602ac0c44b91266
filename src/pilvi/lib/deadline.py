"""Waiting for a state with a deadline: what product and tests use instead of a sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

from pilvi.errors import TimedOut

__all__ = ["wait_for"]

T = TypeVar("T")


@overload
async def wait_for(
    predicate: Callable[[], Awaitable[T]], timeout_s: float, what: str | Callable[[], str], *, interval_s: float = ...
) -> T: ...


@overload
async def wait_for(predicate: Callable[[], T], timeout_s: float, what: str | Callable[[], str], *, interval_s: float = ...) -> T: ...


async def wait_for(
    predicate: Callable[[], T] | Callable[[], Awaitable[T]],
    timeout_s: float,
    what: str | Callable[[], str],
    *,
    interval_s: float = 0.05,
) -> T:
    """Call `predicate` (plain or async) until it returns something true, and return that.

    `what` completes "timed out waiting for …"; a callable is asked at the end, so that it can tell the last state seen.
    Raises TimedOut after `timeout_s` seconds; the predicate is asked at least once. What the predicate raises passes through.
    An async predicate is cut off at the deadline.
    """
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            while True:
                value = predicate()
                result: T = await value if isinstance(value, Awaitable) else value
                if result:
                    return result
                await asyncio.sleep(interval_s)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TimedOut(what if isinstance(what, str) else what(), timeout_s) from None
