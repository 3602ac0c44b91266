"""Deadlines: waiting for a state, which product and tests do instead of a sleep, and bounding a work of several steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

from pilvi.errors import TimedOut

__all__ = ["Deadline", "wait_for", "within"]

T = TypeVar("T")


class Deadline:
    """One deadline for several waits. Made when the time begins to run; `timeout_s` in seconds."""

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds that are left; never 0, so that what comes last is asked once."""
        return max(0.1, self._end_s - time.monotonic())


async def within(timeout_s: float, work: Awaitable[T], what: str, hint: str | None = None) -> T:
    """The result of `work`, which is cancelled after `timeout_s` seconds. Raises TimedOut, whose text `what` completes."""
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            return await work
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TimedOut(what, timeout_s, hint) from None


@overload
async def wait_for(
    predicate: Callable[[], Awaitable[T]],
    timeout_s: float,
    what: str | Callable[[], str],
    *,
    interval_s: float = ...,
    hint: str | None = ...,
) -> T: ...


@overload
async def wait_for(
    predicate: Callable[[], T],
    timeout_s: float,
    what: str | Callable[[], str],
    *,
    interval_s: float = ...,
    hint: str | None = ...,
) -> T: ...


async def wait_for(
    predicate: Callable[[], T] | Callable[[], Awaitable[T]],
    timeout_s: float,
    what: str | Callable[[], str],
    *,
    interval_s: float = 0.05,
    hint: str | None = None,
) -> T:
    """Call `predicate` (plain or async) until it returns something true, and return that.

    `what` completes "timed out waiting for …"; a callable is asked at the end, so that it can tell the last state seen.
    Raises TimedOut, with `hint`, after `timeout_s` seconds; the predicate is asked at least once, and cut off at the deadline when it is
    async. What it raises passes through.
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
        raise TimedOut(what if isinstance(what, str) else what(), timeout_s, hint) from None
