import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.kit.memory import MemoryBudget, fits, read_available_mb


def test_available_memory_is_read_in_mb(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       24684000 kB\nMemFree: 1 kB\nMemAvailable:    2048000 kB\n")
    assert read_available_mb(meminfo, limits=()) == 2000


def test_the_cgroup_limit_counts_when_it_is_lower(tmp_path: Path) -> None:
    meminfo, limit, none = tmp_path / "meminfo", tmp_path / "limit", tmp_path / "none"
    meminfo.write_text("MemAvailable:    2048000 kB\n")
    limit.write_text(f"{512 * 1024**2}\n")
    none.write_text("max\n")
    assert read_available_mb(meminfo, limits=(none, limit, tmp_path / "absent")) == 512
    assert read_available_mb(meminfo, limits=(none,)) == 2000


@pytest.mark.parametrize(
    ("wanted", "running", "expected"),
    [(5000, [], True), (1000, [1000], True), (1001, [1000], False), (1, [1, 1], False)],
)
def test_fits(wanted: int, running: list[int], expected: bool) -> None:
    assert fits(wanted, running, available_mb=2000, most=2) is expected


@given(wanted=st.lists(st.integers(1, 5000), min_size=1, max_size=8), available=st.integers(1, 6000), most=st.integers(1, 4))
def test_all_run_in_the_end_and_never_beyond_the_budget(wanted: list[int], available: int, most: int) -> None:
    running: list[int] = []
    done: list[int] = []

    async def work(budget: MemoryBudget, size: int) -> None:
        async with budget.hold(size):
            running.append(size)
            assert len(running) <= most
            assert len(running) == 1 or sum(running) <= available
            await asyncio.sleep(0)
            running.remove(size)
        done.append(size)

    async def main() -> None:
        budget = MemoryBudget(available, most)
        async with asyncio.TaskGroup() as group:
            for size in wanted:
                group.create_task(work(budget, size))

    asyncio.run(main())
    assert sorted(done) == sorted(wanted)


async def test_a_cancelled_holder_gives_its_memory_back() -> None:
    budget = MemoryBudget(1000, most=2)
    entered = asyncio.Event()

    async def hold() -> None:
        async with budget.hold(1000):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5), budget.hold(1000):
        pass
