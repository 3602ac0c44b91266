"""The work queue of one controller: keys, never events.

A key is in the queue at most once, is handled by at most one worker at a time, and is handed out again after it was added while
being handled. So many changes collapse into one run, and no change is lost. The shape is that of client-go's workqueue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from pilvi.lib.backoff import Backoff

__all__ = ["WorkQueue"]

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """De-duplicated keys with delayed adds and a growing delay per failing key. For use inside one event loop.

    A worker calls `get`, handles the key, says `forget`, `add_after` or `add_failed`, and always ends with `done`.
    """

    def __init__(self, *, backoff_initial_s: float = 0.1, backoff_max_s: float = 60.0) -> None:
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()  # is waiting to be handled, in _ready or (while being handled) to go there
        self._processing: set[K] = set()
        self._delayed: dict[K, asyncio.TimerHandle] = {}
        self._failing: dict[K, Backoff] = {}
        self._wakeups: deque[asyncio.Future[None]] = deque()
        self._backoff_initial_s = backoff_initial_s
        self._backoff_max_s = backoff_max_s

    def __len__(self) -> int:
        """Keys that could be handled now."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    def add(self, key: K) -> None:
        """Handle the key as soon as a worker is free."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Handle the key after `delay_s` seconds. Of several delays the earliest counts; a run before that makes it void."""
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay_s
        earlier = self._delayed.get(key)
        if earlier is not None:
            if earlier.when() <= when:
                return
            earlier.cancel()
        self._delayed[key] = loop.call_at(when, self._due, key)

    def add_failed(self, key: K, *, at_least_s: float = 0.0) -> float:
        """Handle the key again after its next back-off delay, at least `at_least_s`. Returns that delay in seconds."""
        backoff = self._failing.get(key)
        if backoff is None:
            backoff = self._failing[key] = Backoff(self._backoff_initial_s, self._backoff_max_s)
        delay_s = max(backoff.next_s(), at_least_s)
        self.add_after(key, delay_s)
        return delay_s

    def failures(self, key: K) -> int:
        """How often in a row `add_failed` was said for the key."""
        backoff = self._failing.get(key)
        return backoff.failures if backoff is not None else 0

    def forget(self, key: K) -> None:
        """After a success: the next failure of the key starts with the shortest delay again."""
        self._failing.pop(key, None)

    async def get(self) -> K:
        """The next key, as soon as there is one. It is then being handled until `done`."""
        while not self._ready:
            wakeup = asyncio.get_running_loop().create_future()
            self._wakeups.append(wakeup)
            try:
                await wakeup
            except asyncio.CancelledError:
                # The race: woken and cancelled in one step. The key must wake somebody else.
                if wakeup.done() and not wakeup.cancelled() and self._ready:
                    self._wake()
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        # The run that starts now sees everything that the delayed one was meant to see, and decides anew when to come back.
        if (delayed := self._delayed.pop(key, None)) is not None:
            delayed.cancel()
        return key

    def done(self, key: K) -> None:
        """The key is no longer being handled. If it was added meanwhile, it is handed out again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._push(key)

    def close(self) -> None:
        """Cancel all delayed adds; for the end of the controller."""
        for handle in self._delayed.values():
            handle.cancel()
        self._delayed.clear()

    def _due(self, key: K) -> None:
        self._delayed.pop(key, None)
        self.add(key)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._wakeups:
            wakeup = self._wakeups.popleft()
            if not wakeup.done():
                wakeup.set_result(None)
                return
