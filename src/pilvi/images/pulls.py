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
from pathlib import Path
from typing import TypeAlias

from pilvi.errors import Bug, Transient, UserError, format_chain
from pilvi.images.reference import Reference
from pilvi.images.registry import Credentials
from pilvi.images.store import ContainerDisk, ImageStore, Policy, Progress

__all__ = ["Look", "PullFailed", "Pulled", "PulledFiles", "Pulling", "Pulls"]

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
class PulledFiles:
    """They are here, in the order in which they were asked for."""

    files: tuple[Path, ...]


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


_Found: TypeAlias = Pulled | PulledFiles


@dataclass(frozen=True)
class _Wish:
    """A disk, at `path` if that is given, or `files`."""

    reference: Reference
    credentials: Credentials | None
    path: str | None = None
    files: tuple[str, ...] = ()


@dataclass
class _State:
    policy: Policy
    done: int = 0
    total: int = 0
    found: _Found | None = None
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
        """How far its disk is; begins to pull it when nobody has."""
        look = self._look(_Wish(reference, credentials, path=path), policy)
        if isinstance(look, PulledFiles):
            raise Bug(f"files came for the disk of {reference}")
        return look

    def look_files(
        self, reference: Reference, policy: Policy, files: tuple[str, ...], credentials: Credentials | None = None
    ) -> PulledFiles | Pulling | PullFailed:
        """As `look`, for single files of the image."""
        look = self._look(_Wish(reference, credentials, files=files), policy)
        if isinstance(look, Pulled):
            raise Bug(f"a disk came for files of {reference}")
        return look

    def _look(self, wish: _Wish, policy: Policy) -> _Found | Pulling | PullFailed:
        state = self._states.get(wish)
        if state is not None and state.found is not None:
            is_fresh = policy != "Always" or time.monotonic() - state.finished_at < _FRESH_S
            if is_fresh and _is_there(state.found):
                return state.found
            state = None
        if state is None:
            self._forget_old()
            if policy != "Always" and (present := self._find(wish)) is not None:
                return present
            state = self._states[wish] = _State(policy)
            self._start(wish, state)
        if state.failure and not state.running and time.monotonic() >= state.retry_at:
            self._start(wish, state)
        if state.failure and not state.running:
            left_s = state.retry_at - time.monotonic()
            retry_at = datetime.fromtimestamp(time.time() + max(left_s, 0.0), UTC)
            return PullFailed(state.failures, state.failure, retry_at)
        return Pulling(state.done, state.total)

    def _find(self, wish: _Wish) -> _Found | None:
        if wish.files:
            files = self._store.find_files(wish.reference, wish.files, wish.credentials)
            return None if files is None else PulledFiles(files)
        disk = self._store.find(wish.reference, wish.credentials, wish.path)
        return None if disk is None else Pulled(disk)

    async def _ensure(self, wish: _Wish, policy: Policy, progress: Progress) -> _Found:
        if wish.files:
            return PulledFiles(await self._store.ensure_files(wish.reference, policy, wish.files, wish.credentials, progress))
        return Pulled(await self._store.ensure(wish.reference, policy, wish.credentials, wish.path, progress))

    def _forget_old(self) -> None:
        """What nobody has looked for in a long time is asked for anew by whoever looks next."""
        limit = time.monotonic() - _REMEMBERED_S
        for wish in [wish for wish, state in self._states.items() if not state.running and max(state.finished_at, state.retry_at) < limit]:
            del self._states[wish]

    def _start(self, wish: _Wish, state: _State) -> None:
        if self._tasks is not None and not state.running and state.found is None:
            state.running = True
            self._tasks.create_task(self._pull(wish, state), name=f"pull {wish.reference}")

    async def _pull(self, wish: _Wish, state: _State) -> None:
        def progress(done: int, total: int) -> None:
            state.done, state.total = done, total

        try:
            state.found = await self._ensure(wish, state.policy, progress)
            state.finished_at = time.monotonic()
            state.failure = ""
            log.info("image=%s is here as %s", wish.reference, ", ".join(path.name for path in _paths(state.found)))
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


def _paths(found: _Found) -> tuple[Path, ...]:
    return (found.disk.path,) if isinstance(found, Pulled) else found.files


def _is_there(found: _Found) -> bool:
    return all(path.exists() for path in _paths(found))
