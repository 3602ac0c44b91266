"""Stopping within a grace that may become shorter, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from pilvi.errors import UnitFailed
from pilvi.providers.kubevirt.instance.grace import stop_within
from tests.virtual_time import run_virtual


def test_what_is_left_of_the_new_grace_counts_from_the_begin() -> None:
    async def main() -> list[float]:
        begun: list[float] = []
        grace = 100.0

        async def stop(grace_s: float) -> None:
            begun.append(grace_s)
            await asyncio.sleep(grace_s)

        def shorten() -> None:
            nonlocal grace
            grace = 60.0

        asyncio.get_running_loop().call_later(40, shorten)
        started = asyncio.get_running_loop().time()
        await stop_within(stop, lambda: grace)
        return [*begun, asyncio.get_running_loop().time() - started]

    first, second, taken = run_virtual(main)
    assert first == 100
    assert second == pytest.approx(20, abs=1)
    assert taken == pytest.approx(60, abs=1)


def test_a_longer_grace_changes_nothing_and_an_early_end_is_seen_at_once() -> None:
    async def main() -> tuple[int, float]:
        calls = 0

        async def stop(_grace_s: float) -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.25)

        graces = iter([5.0, 9.0, 9.0])
        started = asyncio.get_running_loop().time()
        await stop_within(stop, lambda: next(graces))
        return calls, asyncio.get_running_loop().time() - started

    assert run_virtual(main) == (1, 0.25)


def test_what_the_stop_raises_is_raised_as_itself() -> None:
    async def stop(_grace_s: float) -> None:
        raise UnitFailed("u", "has processes that cannot be killed")

    async def main() -> None:
        with pytest.raises(UnitFailed):
            await stop_within(stop, lambda: 5.0)

    run_virtual(main)


def test_cancelled_it_has_cancelled_the_stop() -> None:
    async def main() -> bool:
        ended = asyncio.Event()

        async def stop(_grace_s: float) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.set()

        task = asyncio.create_task(stop_within(stop, lambda: 100.0))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ended.is_set()

    assert run_virtual(main)
