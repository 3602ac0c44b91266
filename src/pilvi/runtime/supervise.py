"""Who may die: tasks of the engine never, tasks of one tenant alone.

An essential task that ends or raises ends the whole process loudly; the parent starts it anew, and it adopts what runs. A group
(the tasks of one tenant cluster) that fails is started again alone, with growing delays, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from pilvi.errors import Bug, format_chain
from pilvi.lib.backoff import Backoff

__all__ = ["GroupState", "Supervisor", "run_together"]

log = logging.getLogger(__name__)

Main: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

# A group that ran this long before it failed is started again without delay growth from earlier failures.
STABLE_S = 60.0


@dataclass(slots=True)
class GroupState:
    """How a group fares: how often it was started again, and what it died of last (empty when it never did)."""

    name: str
    restarts: int = 0
    last_error: str = ""


async def run_together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all of them as one: the first that ends or raises ends all. What a group's main function uses for its parts.

    Raises what the part raised (as an ExceptionGroup), or Bug when a part just ended.
    """
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(_must_not_end(coroutine), name=getattr(coroutine, "__qualname__", None))


class Supervisor:
    """The root of all tasks of the process. Add essential tasks with `start`, groups with `start_group`, before or during `run`."""

    def __init__(self) -> None:
        self._tasks: asyncio.TaskGroup | None = None
        self._waiting: list[tuple[str, Coroutine[Any, Any, None]]] = []
        self._groups: dict[str, tuple[asyncio.Task[None], GroupState]] = {}
        self._waiting_groups: dict[str, Main] = {}

    def start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a task for as long as the process lives. When it ends, the process does."""
        if self._tasks is None:
            self._waiting.append((name, coroutine))
        else:
            self._tasks.create_task(_must_not_end(coroutine, name), name=name)

    def start_group(self, name: str, main: Main) -> None:
        """Run `main()` and, whenever it ends or fails, again after a growing delay, until `stop_group`. A running group is left alone."""
        if self._tasks is None:
            self._waiting_groups.setdefault(name, main)
        elif name not in self._groups:
            state = GroupState(name)
            task = self._tasks.create_task(_keep_running(main, state), name=name)
            self._groups[name] = (task, state)

    async def stop_group(self, name: str) -> None:
        """Cancel the group and wait until its clean-up is through. No such group is fine."""
        self._waiting_groups.pop(name, None)
        entry = self._groups.pop(name, None)
        if entry is not None:
            entry[0].cancel()
            await asyncio.wait([entry[0]])

    def groups(self) -> list[GroupState]:
        """The state of all running groups, by name."""
        return [state for _, (_, state) in sorted(self._groups.items())]

    async def run(self, stop: Awaitable[Any]) -> None:
        """Run everything until `stop` is done (an event's `wait()`, say) or an essential task dies, which raises.

        On return all tasks have ended, their clean-up included.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks = group
                for name, coroutine in self._waiting:
                    self.start(name, coroutine)
                for name, main in self._waiting_groups.items():
                    self.start_group(name, main)
                self._waiting.clear()
                self._waiting_groups.clear()
                await stop
                raise _Stop
        except* _Stop:
            log.info("all tasks have ended")
        finally:
            self._tasks = None
            self._groups.clear()


class _Stop(Exception):  # noqa: N818 (a signal, no error)
    """Ends the root TaskGroup from inside, which cancels and awaits all its tasks."""


async def _must_not_end(coroutine: Coroutine[Any, Any, None], name: str | None = None) -> None:
    await coroutine
    raise Bug(f"task {name or getattr(coroutine, '__qualname__', coroutine)} ended, but should run for ever")


async def _keep_running(main: Main, state: GroupState) -> None:
    loop = asyncio.get_running_loop()
    backoff = Backoff(0.5, 60.0)
    while True:
        started = loop.time()
        task = asyncio.ensure_future(main())
        try:
            # wait() reports how the task ended without raising it, and is cancelled with us.
            await asyncio.wait([task])
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Exception):
            raise error  # SystemExit, KeyboardInterrupt: not the tenant's to survive
        if loop.time() - started > STABLE_S:
            backoff.reset()
        delay_s = backoff.next_s()
        state.last_error = format_chain(error) if error is not None else "ended by itself"
        log.error("group %s starts again in %.1f s: %s", state.name, delay_s, state.last_error, exc_info=error)
        await asyncio.sleep(delay_s)
        state.restarts += 1
