"""Pulls in the background: a controller looks, and is woken when there is something new to see.

A failed one is tried again when somebody looks after its delay: 10 s, doubled up to 300 s, as kubelet's are. What nobody looks for any
more is not tried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from pilvi.errors import Transient, UserError, format_chain
from pilvi.images.reference import Reference
from pilvi.images.registry import Credentials
from pilvi.images.store import ContainerDisk, ImageStore, Policy

__all__ = ["Look", "PullFailed", "Pulled", "Pulling", "Pulls"]

log = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 10.0, 300.0
# An image that was asked for with the policy Always counts as fresh for that long: one start of a machine looks more than once.
_FRESH_S = 30.0
_REMEMBERED_S = 3600.0


@dataclass(frozen=True)
class Pulled:
    """It is here."""

    disk: ContainerDisk


@dataclass(frozen=True)
class Pulling:
    """It is on its way: bytes that have come, and of all layers (0 while that is not known)."""

    done: int
    total: int


@dataclass(frozen=True)
class PullFailed:
    """It has failed that often in a row, and is tried again."""

    failures: int
    message: str
    retry_at: datetime


Look: TypeAlias = Pulled | Pulling | PullFailed


@dataclass(frozen=True)
class _Wish:
    reference: Reference
    path: str | None
    credentials: Credentials | None


@dataclass
class _State:
    policy: Policy
    done: int = 0
    total: int = 0
    disk: ContainerDisk | None = None
    finished_at: float = 0.0
    failures: int = 0
    failure: str = ""
    retry_at: float = 0.0
    running: bool = False


class Pulls:
    """All pulls of a store. `run` has to run for anything to happen."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._states: dict[_Wish, _State] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._callbacks: list[Callable[[Reference], None]] = []

    def subscribe(self, changed: Callable[[Reference], None]) -> None:
        """`changed(reference)` is called in the loop when a pull of it has ended, well or not. Look again then."""
        self._callbacks.append(changed)

    async def run(self) -> None:
        """Pull what is looked for. Ends only by cancellation; what has come by then stays for the next time."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            try:
                for wish, state in self._states.items():
                    self._start(wish, state)
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    def look(self, reference: Reference, policy: Policy, credentials: Credentials | None = None, path: str | None = None) -> Look:
        """How far it is; begins to pull it when nobody has."""
        wish = _Wish(reference, path, credentials)
        state = self._states.get(wish)
        if state is not None and state.disk is not None:
            is_fresh = policy != "Always" or time.monotonic() - state.finished_at < _FRESH_S
            if is_fresh and state.disk.path.exists():
                return Pulled(state.disk)
            state = None
        if state is None:
            self._forget_old()
            if policy != "Always" and (present := self._store.find(reference, credentials, path)) is not None:
                return Pulled(present)
            state = self._states[wish] = _State(policy)
            self._start(wish, state)
        if state.failure and not state.running and time.monotonic() >= state.retry_at:
            self._start(wish, state)
        if state.failure and not state.running:
            left_s = state.retry_at - time.monotonic()
            retry_at = datetime.fromtimestamp(time.time() + max(left_s, 0.0), UTC)
            return PullFailed(state.failures, state.failure, retry_at)
        return Pulling(state.done, state.total)

    def _forget_old(self) -> None:
        """What nobody has looked for in a long time is asked for anew by whoever looks next."""
        limit = time.monotonic() - _REMEMBERED_S
        for wish in [wish for wish, state in self._states.items() if not state.running and max(state.finished_at, state.retry_at) < limit]:
            del self._states[wish]

    def _start(self, wish: _Wish, state: _State) -> None:
        if self._tasks is not None and not state.running and state.disk is None:
            state.running = True
            self._tasks.create_task(self._pull(wish, state), name=f"pull {wish.reference}")

    async def _pull(self, wish: _Wish, state: _State) -> None:
        def progress(done: int, total: int) -> None:
            state.done, state.total = done, total

        try:
            state.disk = await self._store.ensure(wish.reference, state.policy, wish.credentials, wish.path, progress)
            state.finished_at = time.monotonic()
            state.failure = ""
            log.info("image=%s is here as %s", wish.reference, state.disk.path.name)
        except (UserError, Transient, OSError) as e:
            asked_s = e.retry_after_s if isinstance(e, Transient) else 0.0
            delay_s = max(min(_FIRST_DELAY_S * 2.0**state.failures, _LONGEST_DELAY_S), min(asked_s, _LONGEST_DELAY_S))
            state.failures += 1
            state.failure = format_chain(e)
            state.retry_at = time.monotonic() + delay_s
            log.warning("image=%s is not pulled, next try after %g s: %s", wish.reference, delay_s, state.failure)
        state.running = False
        for changed in self._callbacks:
            changed(wish.reference)
