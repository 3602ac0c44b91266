"""Controllers in virtual time: what wakes a key, and what each result and error does to the queue."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from pilvi import errors
from pilvi.api import JsonObject, Key, Resource
from pilvi.kube import Client
from pilvi.runtime import Controller, Done, Failed, Informers, Metrics, RequeueAfter, Result, Waiting, Watch, owner_reference
from tests.unit.runtime.memory_client import MemoryClient
from tests.virtual_time import run_virtual

THINGS = Resource("t.dev", "v1", "things", "Thing")
PARTS = Resource("t.dev", "v1", "parts", "Part")
NOTES = Resource("t.dev", "v1", "notes", "Note", namespaced=False)
A = Key("default", "a")


class World:
    """A controller of things on a memory client, with a log of its runs: (virtual seconds since the start, key)."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.informers = Informers(cast(Client, client))
        self.metrics = Metrics()
        self.runs: list[tuple[float, Key]] = []
        self.answer: Callable[[Key], Awaitable[Result] | Result] = lambda key: Done()
        self.start = asyncio.get_running_loop().time()

    async def reconcile(self, key: Key) -> Result:
        self.runs.append((round(self.now, 3), key))
        answer = self.answer(key)
        return await answer if isinstance(answer, Awaitable) else answer

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.start

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.runs]

    def outcome(self, outcome: str) -> float:
        return self.metrics.get("pilvi_reconcile_total", controller="things", outcome=outcome)

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[Controller]:
        controller = Controller("things", THINGS, self.reconcile, **options)
        controller.informers(self.informers)
        tasks = [asyncio.create_task(self.informers.run()), asyncio.create_task(controller.run(self.informers, self.metrics))]
        await asyncio.sleep(1)
        try:
            yield controller
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert all(task.cancelled() for task in tasks), tasks


def in_world(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Makes a pytest function of a coroutine function: a fresh world in virtual time for each."""

    def run() -> None:
        async def main() -> None:
            await test(World(MemoryClient()))

        run_virtual(main)

    run.__name__ = test.__name__
    return run


def thing(name: str = "a", n: int = 0, **fields: Any) -> JsonObject:
    return THINGS.new(Key("default", name), spec={"n": n}, **fields)


@in_world
async def test_what_is_there_is_reconciled_once_and_changes_again(world: World) -> None:
    world.client.write(THINGS, thing("a"))
    world.client.write(THINGS, thing("b"))
    async with world.running():
        assert sorted(key for _, key in world.runs) == [A, Key("default", "b")]
        world.runs.clear()
        world.client.write(THINGS, thing("a", 1))
        await asyncio.sleep(1)
        assert [key for _, key in world.runs] == [A]
        world.client.remove(THINGS, A)
        await asyncio.sleep(1)
        assert [key for _, key in world.runs] == [A, A]


@in_world
async def test_status_alone_wakes_nobody_unless_asked(world: World) -> None:
    world.client.write(THINGS, thing())
    async with world.running():
        world.client.write(THINGS, {**thing(), "status": {"ready": True}})
        await asyncio.sleep(1)
        assert len(world.runs) == 1
        world.client.write(THINGS, {**thing(metadata={"annotations": {"x": "y"}}), "status": {"ready": True}})
        await asyncio.sleep(1)
        assert len(world.runs) == 2


@in_world
async def test_owned_objects_wake_their_controller_only(world: World) -> None:
    owner = world.client.write(THINGS, thing())
    async with world.running(owns=[PARTS]):
        world.runs.clear()
        part = PARTS.new(Key("default", "p"), metadata={"ownerReferences": [owner_reference(owner)]})
        world.client.write(PARTS, part)
        await asyncio.sleep(1)
        world.client.write(PARTS, {**part, "status": {"ready": True}})
        await asyncio.sleep(1)
        assert [key for _, key in world.runs] == [A, A]
        world.client.write(PARTS, PARTS.new(Key("default", "q"), metadata={"ownerReferences": [owner_reference(owner, controller=False)]}))
        stranger = {**owner_reference(owner), "apiVersion": "other.dev/v1"}
        world.client.write(PARTS, PARTS.new(Key("default", "r"), metadata={"ownerReferences": [stranger]}))
        await asyncio.sleep(1)
        assert len(world.runs) == 2


@in_world
async def test_watched_objects_wake_the_old_and_the_new_key(world: World) -> None:
    watch = (NOTES, lambda obj: [Key("default", obj["spec"]["about"])])
    async with world.running(watches=[watch]):
        world.client.write(NOTES, NOTES.new(Key("", "n"), spec={"about": "a"}))
        await asyncio.sleep(1)
        world.client.write(NOTES, NOTES.new(Key("", "n"), spec={"about": "b"}))
        await asyncio.sleep(1)
        assert [key.name for _, key in world.runs] == ["a", "a", "b"]


@in_world
async def test_a_watch_with_a_predicate(world: World) -> None:
    async with world.running(watches=[Watch(NOTES, lambda obj: [A], predicate=lambda old, new: False)]):
        world.client.write(NOTES, NOTES.new(Key("", "n"), spec={"x": 1}))
        await asyncio.sleep(1)
        world.client.write(NOTES, NOTES.new(Key("", "n"), spec={"x": 2}))
        await asyncio.sleep(1)
        assert len(world.runs) == 1


@in_world
async def test_requeue_after_and_waiting(world: World) -> None:
    world.client.write(THINGS, thing())
    results: list[Result] = [RequeueAfter(100), Waiting("Boot", "the machine boots", retry_s=7), Done()]
    world.answer = lambda key: results.pop(0)
    async with world.running():
        await asyncio.sleep(2000)
    assert world.times == [0, 100, 107]
    assert (world.outcome("requeue"), world.outcome("waiting"), world.outcome("done")) == (1, 1, 1)


@in_world
async def test_failures_back_off_and_recover(world: World) -> None:
    world.client.write(THINGS, thing())
    world.answer = lambda key: Failed("no room") if len(world.runs) < 6 else Done()
    async with world.running():
        await asyncio.sleep(1000)
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(world.times)]
    assert len(gaps) == 5
    for number, gap in enumerate(gaps):
        assert 0.075 * 2**number <= gap <= 0.1001 * 2**number


@in_world
async def test_a_permanent_failure_waits_for_a_change_even_through_resyncs(world: World) -> None:
    world.client.write(THINGS, thing())
    world.answer = lambda key: Failed("no such version", permanent=True)
    async with world.running(resync_s=100):
        await asyncio.sleep(1000)
        assert len(world.runs) == 1
        world.client.write(THINGS, thing(n=1))
        await asyncio.sleep(10)
        assert len(world.runs) == 2


@in_world
async def test_resync_runs_everything_again_spread_out(world: World) -> None:
    for number in range(10):
        world.client.write(THINGS, thing(f"t{number}"))
    async with world.running(resync_s=100):
        await asyncio.sleep(150)
    assert len(world.runs) == 20
    assert 100 <= world.times[10] < world.times[-1] <= 110.001


@in_world
async def test_conflicts_first_at_once_then_with_patience(world: World) -> None:
    world.client.write(THINGS, thing())

    def answer(key: Key) -> Result:
        if len(world.runs) < 4:
            raise errors.Conflict("changed", {"code": 409})
        return Done()

    world.answer = answer
    async with world.running():
        await asyncio.sleep(10)
    first, second, third, fourth = world.times
    assert second - first < 0.01
    assert 0.1 <= third - second <= 0.2
    assert 0.25 <= fourth - third <= 0.4
    assert world.outcome("conflict") == 3


@in_world
async def test_transient_errors_come_back_when_asked(world: World) -> None:
    world.client.write(THINGS, thing())

    def answer(key: Key) -> Result:
        if len(world.runs) == 1:
            raise errors.ApiUnreachable("tenant API is down", retry_after_s=33)
        if len(world.runs) == 2:
            raise errors.TooManyRequests("slow down", {"code": 429}, retry_after_s=5)
        return Done()

    world.answer = answer
    async with world.running():
        await asyncio.sleep(1000)
    assert world.times == [0, 33, 38]


def test_a_bug_is_logged_counted_and_leaves_other_keys_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World(MemoryClient())
        world.client.write(THINGS, thing("a"))
        world.client.write(THINGS, thing("b"))

        def answer(key: Key) -> Result:
            if key == A:
                raise KeyError("spec")
            return Done()

        world.answer = answer
        async with world.running():
            await asyncio.sleep(30)
            world.client.write(THINGS, thing("b", 1))
            await asyncio.sleep(1)
        assert sum(key.name == "b" for _, key in world.runs) == 2
        assert 6 <= sum(key == A for _, key in world.runs) <= 11
        assert world.metrics.get("pilvi_reconcile_errors_total", controller="things", error="KeyError") == world.outcome("bug")

    with caplog.at_level(logging.ERROR):
        run_virtual(main)
    assert "bug while reconciling default/a: KeyError: 'spec'" in caplog.text
    assert "Traceback" in caplog.text


def test_errors_of_ours_are_said_once_without_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World(MemoryClient())
        world.client.write(THINGS, thing("a"))

        def answer(key: Key) -> Result:
            raise errors.UserError("spec.n is too large", hint="write at most 5")

        world.answer = answer
        async with world.running():
            await asyncio.sleep(30)
        assert len(world.runs) > 5

    with caplog.at_level(logging.INFO):
        run_virtual(main)
    assert caplog.text.count("spec.n is too large; write at most 5") == 1
    assert "Traceback" not in caplog.text


@in_world
async def test_a_result_that_is_none_is_a_bug_not_silence(world: World) -> None:
    world.client.write(THINGS, thing())
    world.answer = lambda key: cast(Result, None) if len(world.runs) == 1 else Done()
    async with world.running() as controller:
        await asyncio.sleep(10)
        assert controller.queue.failures(A) == 0
    assert len(world.runs) == 2
    assert world.outcome("bug") == 1


@in_world
async def test_a_hanging_reconcile_is_cut_off(world: World) -> None:
    world.client.write(THINGS, thing())

    async def hang() -> Result:
        if len(world.runs) == 1:
            await asyncio.sleep(10_000)
        return Done()

    world.answer = lambda key: hang()
    async with world.running(timeout_s=60):
        await asyncio.sleep(100)
    assert len(world.runs) == 2
    assert 60 <= world.times[1] <= 60.2


@in_world
async def test_concurrency_is_bounded_and_a_key_never_runs_twice_at_once(world: World) -> None:
    now: list[Key] = []
    most = 0

    async def answer(key: Key) -> Result:
        nonlocal most
        assert key not in now
        now.append(key)
        most = max(most, len(now))
        await asyncio.sleep(5)
        now.remove(key)
        return Done()

    world.answer = answer
    async with world.running(concurrency=3) as controller:
        for number in range(8):
            world.client.write(THINGS, thing(f"t{number}"))
        await asyncio.sleep(2)
        for number in range(8):
            controller.enqueue(Key("default", f"t{number}"))
        await asyncio.sleep(100)
    assert most == 3
    assert 8 <= len(world.runs) <= 16


@in_world
async def test_a_key_waits_until_the_cache_has_seen_its_own_writes(world: World) -> None:
    world.client.write(THINGS, thing())
    async with world.running() as controller:
        world.client.delay_s = 3
        world.runs.clear()
        seen: list[int] = []
        informer = world.informers.get(THINGS)

        def answer(key: Key) -> Result:
            cached = informer.get(key)
            assert cached is not None
            seen.append(cached["spec"]["n"])
            if len(seen) == 1:
                world.client.write(THINGS, thing(n=7))
                controller.enqueue(key)  # something else wakes it at once
            return Done()

        world.answer = answer
        controller.enqueue(A)
        await asyncio.sleep(20)
    assert seen[:2] == [0, 7]
    assert world.times[1] - world.times[0] == pytest.approx(3)


def test_but_no_longer_than_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World(MemoryClient())
        world.client.write(THINGS, thing())
        async with world.running() as controller:
            world.client.delay_s = 1000
            world.runs.clear()

            def answer(key: Key) -> Result:
                if len(world.runs) == 1:
                    world.client.write(THINGS, thing(n=7))
                    controller.enqueue(key)
                return Done()

            world.answer = answer
            controller.enqueue(A)
            await asyncio.sleep(20)
        assert world.times[1] - world.times[0] == pytest.approx(5, abs=0.1)

    with caplog.at_level(logging.WARNING):
        run_virtual(main)
    assert "has not seen a write of default/a in time" in caplog.text


def test_a_slow_reconcile_says_once_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async def wait_for_disk() -> Result:
        await asyncio.sleep(100)
        return Done()

    async def main() -> None:
        world = World(MemoryClient())
        world.client.write(THINGS, thing())
        world.answer = lambda _key: wait_for_disk()
        async with world.running():
            await asyncio.sleep(28)
            assert "reconciling" not in caplog.text
            await asyncio.sleep(200)

    with caplog.at_level(logging.WARNING):
        run_virtual(main)
    assert caplog.text.count("controller things: reconciling default/a for 30 s now, in ") == 1
    assert "wait_for_disk (test_controller.py:" in caplog.text
