"""Copies that are under way: tasks that outlive a pass of a controller, which only looks at them.

A file system that can share blocks copies in no time, and as the disk is at one moment, also one that is in use. On any other the bytes
are copied; such a copy is good only when nothing was written to the disk meanwhile: its machine is stopped, paused or frozen.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pilvi.errors import DriverError, NoSpace, PilviError, Transient
from pilvi.lib.disk import on_disk
from pilvi.lib.run import run
from pilvi.providers.storage import files

__all__ = ["Copies", "Copy", "Method", "copy_disk"]

Method: TypeAlias = Literal["reflink", "copy"]

COPY_S = 12 * 3600.0
AT_ONCE = 2


@dataclass
class Copy:
    """One copy. At its end either `method` says how it was made, or `error` why it was not."""

    method: Method | None = None
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
                copy.method = await copy_disk(source, disk, size_bytes)
        except (PilviError, OSError) as e:
            copy.error = e
        finally:
            changed()


async def copy_disk(source: Path, disk: Path, size_bytes: int) -> Method:
    """Make `disk` a copy of `source`, grown to that size. It is there whole or not at all.

    Raises NoSpace, Transient when the source is gone or was written to meanwhile, OSError and DriverError when the disk refuses.
    """
    try:
        if await on_disk(files.reflink, source, disk, size_bytes):
            return "reflink"
        before = await on_disk(source.stat)
        new = await on_disk(files.unfinished, disk)
        try:
            await run(["cp", "--reflink=never", "--sparse=always", source, new], timeout_s=COPY_S)
            after = await on_disk(source.stat)
            if (after.st_mtime_ns, after.st_ino) != (before.st_mtime_ns, before.st_ino):
                raise Transient(
                    "the disk was written to while it was copied, and this file system cannot share blocks between files;"
                    " stop or pause its machine, and the copy is made",
                    retry_after_s=10.0,
                )
            await on_disk(files.publish, new, disk, size_bytes)
        except DriverError as e:
            if os.strerror(errno.ENOSPC) in e.stderr:
                raise NoSpace(
                    f"the file system of {disk.parent} is full", hint="remove what is not needed; the copy is made again by itself"
                ) from e
            raise
        finally:
            await on_disk(new.unlink, missing_ok=True)
    except FileNotFoundError as e:
        raise Transient(f"the disk to copy is not there: {e.filename}", retry_after_s=10.0) from e
    return "copy"
