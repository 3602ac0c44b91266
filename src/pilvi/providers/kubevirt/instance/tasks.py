"""What is done beside a machine for as long as it runs, in the background: one task for each instance and purpose.

A pass over an instance must not wait for its guest, so it says what shall be done, and reads later what has come of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from pilvi.api.resource import Key

__all__ = ["MachineTasks"]

Make: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class MachineTasks:
    """Tasks by the key of an instance and a name of what they do. `run` has to run; what was asked for before begins with it."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[Key, str], tuple[object, Make]] = {}
        self._tasks: dict[tuple[Key, str], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Hold the tasks. Ends only by cancellation, and they with it; an error that one of them raises is a bug and ends all."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for place in self._wanted:
                    self._begin(place)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def keep(self, key: Key, name: str, wanted: object, make: Make) -> None:
        """Have `make()` run; one that was begun for something else than `wanted` is ended, and begun anew."""
        place = (key, name)
        if place in self._wanted and self._wanted[place][0] == wanted:
            return
        self.end(key, name)
        self._wanted[place] = (wanted, make)
        self._begin(place)

    def end(self, key: Key, name: str | None = None) -> None:
        """End that task, or all of the instance. Those that are not there are fine."""
        for place in [place for place in self._wanted if place[0] == key and name in (None, place[1])]:
            del self._wanted[place]
            if (task := self._tasks.pop(place, None)) is not None:
                task.cancel()

    def _begin(self, place: tuple[Key, str]) -> None:
        if self._group is not None:
            self._tasks[place] = self._group.create_task(self._wanted[place][1](), name=f"{place[1]} {place[0]}")
