"""Runs reconciles: from changes in the caches to keys, from results to queue operations.

This is the one place where exceptions of a reconcile are caught. An unexpected error in one reconcile is logged with its traceback,
counted, and retried with back-off, since one broken object must not stop the running machines of all others. A dead informer or
queue is different: it ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import Bug, Conflict, PilviError, Transient, format_chain
from pilvi.kube import Selector
from pilvi.runtime.informer import Handler, Informer
from pilvi.runtime.informers import Informers
from pilvi.runtime.metrics import Metrics
from pilvi.runtime.owners import controller_key
from pilvi.runtime.predicates import Predicate, any_change, desire_changed
from pilvi.runtime.queue import WorkQueue
from pilvi.runtime.results import Done, Failed, RequeueAfter, Result, Waiting
from pilvi.runtime.stacks import where
from pilvi.runtime.writes import current_writes

__all__ = ["Controller", "KeysFunction", "Reconcile", "Watch", "no_keys"]

log = logging.getLogger(__name__)

Reconcile: TypeAlias = Callable[[Key], Awaitable[Result]]
KeysFunction: TypeAlias = Callable[[JsonObject], Iterable[Key]]

RESYNC_S = 3600.0
RECONCILE_TIMEOUT_S = 600.0
SEEN_TIMEOUT_S = 5.0
SLOW_S = 30.0


class Watch(NamedTuple):
    """Another kind whose changes wake keys: `keys(obj)` is pure and is asked for the old and the new object."""

    resource: Resource
    keys: KeysFunction
    predicate: Predicate = any_change
    namespace: str | None = None
    labels: Selector = None


def no_keys(_obj: JsonObject) -> Iterable[Key]:
    """The keys of a kind that is watched for its cache only."""
    return ()


class Controller:
    """Reconciles objects of `resource` with `reconcile(key)`, at most `concurrency` keys at a time and never one key twice at once.

    A key is woken when: its object changes (`predicate`, default: anything but the status), an object that it controls (kinds in
    `owns`, by controller owner reference) changes, or a kind in `watches` changes for which the function names the key. Plain
    tuples `(resource, keys)` are fine as watches. Every `resync_s` seconds all keys are run again, spread over a tenth of that.
    `namespace`, `labels` and `fields` narrow the own kind. A reconcile that takes longer than `timeout_s` is cancelled and counts
    as an error: each outside wait in it should have a shorter deadline of its own. `beside` are loops that run as long as the controller:
    what watches the world outside the API, or does work that takes longer than a reconcile may.
    """

    def __init__(
        self,
        name: str,
        resource: Resource,
        reconcile: Reconcile,
        *,
        owns: Sequence[Resource] = (),
        watches: Sequence[Watch | tuple[Resource, KeysFunction]] = (),
        concurrency: int = 4,
        predicate: Predicate = desire_changed,
        namespace: str | None = None,
        labels: Selector = None,
        fields: Selector = None,
        resync_s: float = RESYNC_S,
        timeout_s: float = RECONCILE_TIMEOUT_S,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self.name = name
        self.resource = resource
        self.queue: WorkQueue[Key] = WorkQueue()
        self._reconcile = reconcile
        self._owns = owns
        self._watches = [Watch(*watch) for watch in watches]
        self._concurrency = concurrency
        self._predicate = predicate
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._resync_s = resync_s
        self._timeout_s = timeout_s
        self._beside = beside
        self._parked: set[Key] = set()  # failed for good: only a change wakes them, not the resync
        self._said: dict[Key, str] = {}  # the last decision that was logged, so that each is logged once

    def enqueue(self, key: Key) -> None:
        """Wake a key by a signal from outside the API (a process died, a link changed). The reconcile reads the state again."""
        self._parked.discard(key)
        self.queue.add(key)

    def informers(self, informers: Informers) -> list[Informer]:
        """The informers that this controller reads its wake-ups from; the first is that of its own kind."""
        return [
            informers.get(self.resource, self._namespace, self._labels, self._fields),
            *(informers.get(owned, self._namespace) for owned in self._owns),
            *(informers.get(watch.resource, watch.namespace, watch.labels) for watch in self._watches),
        ]

    async def run(self, informers: Informers, metrics: Metrics | None = None) -> None:
        """Run until cancelled. Waits until all its informers have synced before the first reconcile.

        `informers.run()` has to run beside it. Raises only for a bug in the runtime itself.
        """
        numbers = metrics or Metrics()
        self._declare(numbers)
        primary, *others = self.informers(informers)
        stops = [primary.subscribe(self._handler(lambda obj: [Key.of(obj)], self._predicate))]
        for owned, informer in zip(self._owns, others, strict=False):
            log.debug("controller %s follows %s", self.name, owned)
            stops.append(informer.subscribe(self._handler(self._owner_keys, any_change)))
        for watch, informer in zip(self._watches, others[len(self._owns) :], strict=True):
            stops.append(informer.subscribe(self._handler(watch.keys, watch.predicate)))
        try:
            for informer in (primary, *others):
                await informer.synced.wait()
            async with asyncio.TaskGroup() as group:
                for number in range(self._concurrency):
                    group.create_task(self._work(numbers), name=f"{self.name} worker {number}")
                group.create_task(self._resync(primary), name=f"{self.name} resync")
                for task in self._beside:
                    group.create_task(task(), name=f"{self.name} {task.__qualname__}")
        finally:
            for stop in stops:
                stop()
            self.queue.close()

    def _handler(self, keys: KeysFunction, predicate: Predicate) -> Handler:
        def handle(old: JsonObject | None, new: JsonObject | None) -> None:
            if old is not None and new is not None and not predicate(old, new):
                return
            # Both, since a changed object may point elsewhere now, and the key it pointed to before has to let go.
            for obj in (old, new):
                if obj is not None:
                    for key in keys(obj):
                        self.enqueue(key)

        return handle

    def _owner_keys(self, obj: JsonObject) -> list[Key]:
        key = controller_key(obj, self.resource)
        return [key] if key is not None else []

    async def _work(self, metrics: Metrics) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self._run_one(key, metrics)
            finally:
                self.queue.done(key)
            # A key that wakes itself and is refused without any real wait would starve the loop.
            await asyncio.sleep(0)

    async def _run_one(self, key: Key, metrics: Metrics) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        writes: list[tuple[Informer, int]] = []
        token = current_writes.set(writes)
        slow = loop.call_later(SLOW_S, self._say_slow, key, asyncio.current_task())
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._reconcile(key)
            if not isinstance(result, Done | RequeueAfter | Waiting | Failed):
                raise Bug(f"controller {self.name}: reconcile returned {result!r}, which is no Result")
        except Exception as e:  # the one place, see the module's docstring
            outcome = self._after_error(key, e, metrics)
        else:
            outcome = self._after_result(key, result)
        finally:
            slow.cancel()
            current_writes.reset(token)
        metrics.add("pilvi_reconcile_total", controller=self.name, outcome=outcome)
        metrics.add("pilvi_reconcile_seconds_total", loop.time() - started, controller=self.name)
        await self._wait_seen(key, writes)

    def _say_slow(self, key: Key, task: asyncio.Task[Any] | None) -> None:
        """Once for each reconcile. Some may take long, a machine that powers off for one; of the others this is the only trace."""
        log.warning("controller %s: reconciling %s for %g s now, in %s", self.name, key, SLOW_S, where(task) if task else "no task")

    async def _wait_seen(self, key: Key, writes: list[tuple[Informer, int]]) -> None:
        """Hold the key until the caches have seen what it wrote, else its next run would decide on what it has just changed."""
        loop = asyncio.get_running_loop()
        newest: dict[Informer, int] = {}
        for informer, version in writes:
            newest[informer] = max(version, newest.get(informer, 0))
        deadline = loop.time() + SEEN_TIMEOUT_S
        for informer, version in newest.items():
            if not await informer.wait_seen(version, max(0.0, deadline - loop.time())):
                log.warning("controller %s: the cache of %s has not seen a write of %s in time", self.name, informer.resource, key)

    def _after_result(self, key: Key, result: Result) -> str:
        if isinstance(result, Failed):
            self._say(key, logging.WARNING, f"failed: {result.message}")
            if result.permanent:
                self.queue.forget(key)
                self._parked.add(key)
                return "failed_for_good"
            self.queue.add_failed(key)
            return "failed"
        self.queue.forget(key)
        if isinstance(result, Done):
            self._said.pop(key, None)
            return "done"
        if isinstance(result, RequeueAfter):
            self._said.pop(key, None)
            self.queue.add_after(key, result.seconds)
            return "requeue"
        self._say(key, logging.INFO, f"waiting, {result.reason}: {result.message}")
        self.queue.add_after(key, result.retry_s)
        return "waiting"

    def _after_error(self, key: Key, error: Exception, metrics: Metrics) -> str:
        metrics.add("pilvi_reconcile_errors_total", controller=self.name, error=type(error).__name__)
        if isinstance(error, Conflict):
            # At once the first time. Again and again means that the cache lags behind: then give it time.
            if self.queue.failures(key) == 0:
                self.queue.add_failed(key)
                self.queue.add(key)
            else:
                self.queue.add_failed(key)
            return "conflict"
        if isinstance(error, Transient):
            self._say(key, logging.INFO, f"retrying: {format_chain(error)}")
            self.queue.add_failed(key, at_least_s=error.retry_after_s)
            return "transient"
        self.queue.add_failed(key)
        if isinstance(error, PilviError) and not isinstance(error, Bug):
            self._say(key, logging.WARNING, f"error: {format_chain(error)}")
            return "error"
        log.error("controller %s: bug while reconciling %s: %s", self.name, key, format_chain(error), exc_info=error)
        return "bug"

    def _say(self, key: Key, level: int, decision: str) -> None:
        if self._said.get(key) != decision:
            self._said[key] = decision
            log.log(level, "controller=%s key=%s %s", self.name, key, decision)

    async def _resync(self, primary: Informer) -> None:
        while True:
            await asyncio.sleep(self._resync_s)
            for key in [*primary.keys()]:
                if key not in self._parked:
                    self.queue.add_after(key, random.uniform(0.0, self._resync_s / 10))  # noqa: S311 (spreading load)

    def _declare(self, metrics: Metrics) -> None:
        metrics.counter("pilvi_reconcile_total", "Reconciles by outcome.")
        metrics.counter("pilvi_reconcile_seconds_total", "Time spent in reconciles, in seconds.")
        metrics.counter("pilvi_reconcile_errors_total", "Reconciles that raised, by class of error.")
        metrics.gauge("pilvi_queue_depth", "Keys that wait for a worker.")
        metrics.gauge("pilvi_queue_delayed", "Keys that wait for their time.")
        metrics.set_source("pilvi_queue_depth", lambda: float(len(self.queue)), controller=self.name)
        metrics.set_source("pilvi_queue_delayed", lambda: float(self.queue.delayed), controller=self.name)
