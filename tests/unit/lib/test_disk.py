import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pilvi.lib.disk import finish_on_disk, on_disk


async def test_small_work_does_not_wait_behind_trees() -> None:
    loop, free = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    trees = [asyncio.ensure_future(on_disk(free.wait, timeout=20)) for _ in range(8)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        free.set()
    assert await asyncio.gather(*trees) == [True] * 8


async def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await on_disk(divmod, 1, 0)


async def test_a_short_step_is_waited_for_also_when_it_is_cancelled() -> None:
    begun, free, ended = threading.Event(), threading.Event(), threading.Event()

    def step() -> None:
        begun.set()
        free.wait(20)
        ended.set()

    task = asyncio.create_task(finish_on_disk(step))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    asyncio.get_running_loop().call_later(0.05, free.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
