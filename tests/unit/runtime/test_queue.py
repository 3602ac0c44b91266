from __future__ import annotations

import asyncio
import random

import pytest

from pilvi.runtime import WorkQueue
from tests.virtual_time import run_virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_key_is_in_the_queue_once() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        assert len(queue) == 2
        assert [await queue.get(), await queue.get()] == ["a", "b"]

    run_virtual(main)


def test_a_key_added_while_handled_comes_again_but_never_twice_at_once() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    run_virtual(main)


def test_delayed_adds_come_in_time_and_the_earliest_counts() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        start = now()
        queue.add_after("late", 3600)
        queue.add_after("a", 20)
        queue.add_after("a", 10)
        queue.add_after("a", 30)
        assert queue.delayed == 2
        assert await queue.get() == "a"
        assert now() - start == pytest.approx(10)
        queue.done("a")
        assert await queue.get() == "late"
        assert now() - start == pytest.approx(3600)

    run_virtual(main)


def test_a_run_voids_the_delays_said_before_it_but_not_those_after() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        start = now()
        queue.add_after("a", 10)
        queue.add("a")
        await queue.get()
        queue.add_after("a", 50)
        queue.done("a")
        assert await queue.get() == "a"
        assert now() - start == pytest.approx(50)

    run_virtual(main)


def test_backoff_grows_per_key_and_is_forgotten() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(backoff_initial_s=1, backoff_max_s=100)
        delays = [queue.add_failed("a") for _ in range(9)]
        assert delays[0] <= 1
        assert 75 <= delays[-1] <= 100
        assert queue.failures("a") == 9
        assert queue.add_failed("b") <= 1
        queue.forget("a")
        assert queue.failures("a") == 0
        assert queue.add_failed("a") <= 1
        assert queue.add_failed("a", at_least_s=500) == 500

    run_virtual(main)


def test_a_cancelled_waiter_passes_its_wake_on() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        first = asyncio.create_task(queue.get())
        second = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")  # wakes the first, which is cancelled in the same step
        first.cancel()
        assert await second == "a"
        with pytest.raises(asyncio.CancelledError):
            await first

    run_virtual(main)


@pytest.mark.parametrize("seed", range(20))
def test_no_change_is_lost_and_no_key_runs_twice_at_once(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)  # noqa: S311
        queue: WorkQueue[int] = WorkQueue()
        desired = dict.fromkeys(range(5), 0)
        handled = dict.fromkeys(range(5), 0)
        running: set[int] = set()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in running
                running.add(key)
                seen = desired[key]
                await asyncio.sleep(chance.random())
                handled[key] = seen
                running.discard(key)
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(3)]
        for _ in range(200):
            key = chance.randrange(5)
            desired[key] += 1
            if chance.random() < 0.3:
                queue.add_after(key, chance.random() * 5)
            else:
                queue.add(key)
            await asyncio.sleep(chance.random() * 0.3)
        await asyncio.sleep(30)
        assert handled == desired
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        assert all(worker.cancelled() for worker in workers)

    run_virtual(main)
