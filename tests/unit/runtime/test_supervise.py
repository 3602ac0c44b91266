from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from pilvi.errors import Bug, PilviError
from pilvi.runtime import Supervisor, run_together
from tests.virtual_time import run_virtual


async def for_ever() -> None:
    await asyncio.sleep(1_000_000)


def test_stop_ends_everything_after_its_clean_up() -> None:
    cleaned: list[str] = []

    async def careful(name: str) -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(1)
            cleaned.append(name)

    async def main() -> None:
        supervisor = Supervisor()
        supervisor.start("before", careful("before"))
        stop = asyncio.Event()

        async def later() -> None:
            supervisor.start("during", careful("during"))
            supervisor.start_group("tenant", lambda: careful("tenant"))
            await asyncio.sleep(10)
            stop.set()
            await for_ever()

        supervisor.start("later", later())
        await supervisor.run(stop.wait())

    run_virtual(main)
    assert sorted(cleaned) == ["before", "during", "tenant"]


@pytest.mark.parametrize("dies", [True, False])
def test_an_essential_task_that_dies_or_ends_ends_the_process(dies: bool) -> None:
    async def essential() -> None:
        await asyncio.sleep(5)
        if dies:
            raise ZeroDivisionError

    async def main() -> None:
        supervisor = Supervisor()
        supervisor.start("essential", essential())
        supervisor.start("other", for_ever())
        await supervisor.run(asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(ZeroDivisionError if dies else Bug)


def test_a_group_is_started_again_alone_with_growing_delays(caplog: pytest.LogCaptureFixture) -> None:
    starts: list[float] = []
    other_starts: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        supervisor = Supervisor()
        stop = asyncio.Event()

        async def broken() -> None:
            starts.append(loop.time() - start)
            await asyncio.sleep(1)
            raise PilviError("tenant API broke")

        async def fine() -> None:
            other_starts.append(loop.time())
            await for_ever()

        supervisor.start_group("broken", broken)
        supervisor.start_group("fine", fine)

        async def watch() -> None:
            await asyncio.sleep(600)
            broken_state, fine_state = supervisor.groups()
            assert (broken_state.restarts, broken_state.last_error) == (len(starts) - 1, "tenant API broke")
            assert fine_state.restarts == 0
            await supervisor.stop_group("broken")
            await supervisor.stop_group("never started")
            count = len(starts)
            await asyncio.sleep(600)
            assert len(starts) == count
            stop.set()
            await for_ever()

        supervisor.start("watch", watch())
        await supervisor.run(stop.wait())

    with caplog.at_level(logging.ERROR):
        run_virtual(main)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert 10 <= len(gaps) <= 25
    assert gaps[0] <= 1.5
    assert max(gaps) <= 61
    assert gaps[-1] > 40
    assert len(other_starts) == 1
    assert "group broken starts again" in caplog.text


def test_starting_a_group_twice_is_once() -> None:
    starts: list[int] = []

    async def main() -> None:
        supervisor = Supervisor()
        stop = asyncio.Event()

        async def group() -> None:
            starts.append(1)
            await for_ever()

        async def starter() -> None:
            supervisor.start_group("tenant", group)
            supervisor.start_group("tenant", group)
            await asyncio.sleep(5)
            stop.set()
            await for_ever()

        supervisor.start("starter", starter())
        await supervisor.run(stop.wait())

    run_virtual(main)
    assert starts == [1]


def test_parts_of_a_group_end_together() -> None:
    cancelled: list[bool] = []

    async def fails() -> None:
        await asyncio.sleep(1)
        raise PilviError("one part")

    async def other() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        await run_together(fails(), other())

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(PilviError, match="one part")
    assert cancelled == [True]
