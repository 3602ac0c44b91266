"""Copies that are under way: tasks that outlive a pass of a controller, which only looks at them.

A file system that can share blocks copies in no time, and as the disk is at one moment, also one that is in use. On any other the bytes
are copied; such a copy is good only when nothing was written to the disk meanwhile: its machine is stopped, paused or frozen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pilvi.errors import PilviError
from pilvi.providers.storage import files

__all__ = ["Copies", "Copy"]

AT_ONCE = 2


@dataclass
class Copy:
    """One copy. At its end either `method` says how it was made, or `error` why it was not."""

    method: Literal["reflink", "copy"] | None = None
    error: Exception | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Copies:
    """All copies, by the disk that they make. `run` has to be running; what is begun before waits for it."""

    def __init__(self) -> None:
        self._copies: dict[Path, Copy] = {}
        self._waiting: list[tuple[Copy, Coroutine[Any, Any, None]]] = []
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    def begin(self, source: Path, disk: Path, size_bytes: int, changed: Callable[[], None]) -> None:
        """Begin to make `disk` a copy of `source`, unless that is under way. `changed` is called once, at its end."""
        if disk in self._copies:
            return
        copy = self._copies[disk] = Copy()
        work = self._run_one(copy, source, disk, size_bytes, changed)
        if self._group is None:
            self._waiting.append((copy, work))
        else:
            copy.task = self._group.create_task(work, name=f"copy to {disk}")

    def take_ended(self, disk: Path) -> Copy | None:
        """The copy that makes `disk` when it has ended, which is forgotten then; None when it has not, or there is none."""
        copy = self._copies.get(disk)
        if copy is None or (copy.method is None and copy.error is None):
            return None
        return self._copies.pop(disk)

    async def run(self) -> None:
        """Run the copies until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for copy, work in self._waiting:
                    copy.task = group.create_task(work)
                self._waiting.clear()
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    async def stop(self, disk: Path) -> None:
        """End the copy; on return nothing of it writes any more. None is fine."""
        copy = self._copies.pop(disk, None)
        for entry in [entry for entry in self._waiting if entry[0] is copy]:
            self._waiting.remove(entry)
            entry[1].close()
        if copy is not None and copy.task is not None:
            copy.task.cancel()
            await asyncio.wait([copy.task])

    async def _run_one(self, copy: Copy, source: Path, disk: Path, size_bytes: int, changed: Callable[[], None]) -> None:
        try:
            async with self._turns:
                copy.method = await files.copy(source, disk, size_bytes)
        except (PilviError, OSError) as e:
            copy.error = e
        finally:
            changed()
