"""Raw disks as files: made, cloned, grown. A disk is under its name whole or not at all, and on the disk when a function returns.

Half-made ones are called `.NAME.new`; what a killed engine left goes with the next try. Two at once for one name is the caller's to
prevent. A file system without room is NoSpace and leaves nothing.

Opening and sparse truncation are done at once, what waits for the disk in a thread that is waited for: a file must not be closed, and its
number given to another, while a thread is at work on it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from pilvi.errors import NoSpace, UserError
from pilvi.host.disks.formats import LARGEST_BYTES, SECTOR
from pilvi.lib.disk import finish_on_disk, on_disk

__all__ = [
    "allocated_bytes",
    "clone_file",
    "create_disk",
    "empty_disk",
    "free_bytes",
    "grow_disk",
    "need_room",
    "preallocate_disk",
    "reflink",
    "unfinished",
]

_FICLONE = 0x40049409  # ioctl_ficlonerange(2)
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM)
_CANNOT_OFFLOAD = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STEP_BYTES = 64 << 20
_ALLOCATE_STEP_BYTES = 1 << 30


async def clone_file(
    source: Path, target: Path, *, size_bytes: int | None = None, progress: Callable[[float], None] | None = None
) -> Literal["reflink", "copy"]:
    """Make `target` a copy of `source`, for root only (0600), grown to `size_bytes` when that is more. One that is there is replaced.

    Shared blocks where the file system can: at once, as the source is at that moment, whoever writes to it. Else its data are copied and
    its holes stay holes; the source must then not be written to meanwhile. `progress` gets 0.0 to 1.0.
    Raises UserError when the source is larger than `size_bytes`, NoSpace, OSError (no source). After failure or cancellation there is
    nothing new, and nothing is written any more.
    """
    origin = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        length = os.fstat(origin).st_size
        size = length if size_bytes is None else size_bytes
        if length > size:
            raise UserError(f"{source} has {length} bytes, and a disk of {size} bytes cannot hold them", hint="ask for a larger one")
        async with unfinished(target) as (_, new):
            if length and await finish_on_disk(reflink, origin, new):
                method: Literal["reflink", "copy"] = "reflink"
            else:
                method = "copy"
                await on_disk(need_room, target.parent, os.fstat(origin).st_blocks * SECTOR)
                offset: int | None = 0
                while offset is not None:
                    offset = await finish_on_disk(_copy_step, origin, new, offset, length)
                    if progress is not None and offset is not None:
                        progress(offset / length)
            os.truncate(new, size)
        if progress is not None:
            progress(1.0)
        return method
    finally:
        os.close(origin)


async def create_disk(path: Path, size_bytes: int, *, preallocate: bool = False) -> None:
    """Make `path` an empty disk of that size, for root only; with `preallocate` its space is taken at once. One that is there is replaced.

    Raises UserError for a size that is none, NoSpace, OSError.
    """
    check_size(size_bytes)
    async with unfinished(path) as (_, new):
        os.truncate(new, size_bytes)
        if preallocate:
            await _allocate(path.parent, new, size_bytes)


def empty_disk(path: Path) -> None:
    """Make a disk of zeros of it that takes no room, of the size that it has. Blocks. Raises OSError."""
    size_bytes = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size_bytes)


async def grow_disk(path: Path, size_bytes: int, *, preallocate: bool = False) -> None:
    """Make a raw disk larger; one of that size stays as it is. A machine that uses it has to be told.

    Raises UserError when it would become smaller, NoSpace (with `preallocate`: the size is as it was then), OSError.
    """
    check_size(size_bytes)
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        before = os.fstat(fd).st_size
        if size_bytes < before:
            raise UserError(f"the disk {path} has {before} bytes and cannot become smaller", hint=f"ask for at least {before} bytes")
        if size_bytes == before:
            return
        try:
            os.truncate(fd, size_bytes)
            if preallocate:
                await _allocate(path.parent, fd, size_bytes, before)
        except BaseException:
            os.truncate(fd, before)
            raise
        await finish_on_disk(os.fsync, fd)
    finally:
        os.close(fd)


async def preallocate_disk(path: Path) -> None:
    """Take the space of a disk's holes; its data stay. Raises NoSpace (before or within), OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        await _allocate(path.parent, fd, found.st_size, taken_bytes=found.st_blocks * SECTOR)
        await finish_on_disk(os.fsync, fd)
    finally:
        os.close(fd)


def free_bytes(folder: Path) -> int:
    """What is free on the file system of a folder, in bytes."""
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize


def allocated_bytes(path: Path) -> int:
    """What a file takes of its file system, in bytes. Blocks that are shared with others count in full."""
    return path.stat().st_blocks * SECTOR


def check_size(size_bytes: int) -> None:
    """Raises UserError unless it can be the size of a disk."""
    if not SECTOR <= size_bytes <= LARGEST_BYTES or size_bytes % SECTOR:
        raise UserError(f"a disk of {size_bytes} bytes is none", hint="write a multiple of 512 bytes, such as 1Gi, and at most 1Pi")


def need_room(folder: Path, needed_bytes: int) -> None:
    """Raises NoSpace unless so many bytes are free on the file system of the folder."""
    free = free_bytes(folder)
    if needed_bytes > free:
        raise _no_space(folder, needed_bytes - free)


def reflink(source: int, target: int) -> bool:
    """Make one open file share all blocks of another; False when the file system cannot. Raises OSError."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as e:
        if e.errno in _CANNOT_SHARE:
            return False
        raise
    return True


@asynccontextmanager
async def unfinished(path: Path) -> AsyncIterator[tuple[Path, int]]:
    """A new file, open for reading and writing, and what it is called meanwhile. At the end of the block it becomes `path`.

    When the block fails it is removed.

    Raises NoSpace for a full file system, also out of the block.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        fd = _open_new(new)
        try:
            yield new, fd
            await finish_on_disk(os.fsync, fd)
        finally:
            os.close(fd)
        await finish_on_disk(_publish, new, path)
    except OSError as e:
        if e.errno in _FULL:
            raise _no_space(path.parent, None) from e
        raise
    finally:
        new.unlink(missing_ok=True)  # after the end: it has another name


def _open_new(new: Path) -> int:
    new.unlink(missing_ok=True)
    return os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _publish(new: Path, path: Path) -> None:
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _copy_step(source: int, target: int, offset: int, length: int) -> int | None:
    """Copy the next piece of data at or after `offset`; where to go on, or None at the end."""
    try:
        start = os.lseek(source, offset, os.SEEK_DATA)
    except OSError as e:
        if e.errno == errno.ENXIO:  # only a hole is left
            return None
        raise
    end = min(os.lseek(source, start, os.SEEK_HOLE), start + _STEP_BYTES, length)
    while start < end:
        try:
            done = os.copy_file_range(source, target, end - start, start, start)
        except OSError as e:
            if e.errno not in _CANNOT_OFFLOAD:
                raise
            os.lseek(target, start, os.SEEK_SET)
            done = os.sendfile(target, source, start, end - start)
        if done == 0:  # the source became shorter
            return None
        start += done
    return start if start < length else None


async def _allocate(folder: Path, fd: int, size_bytes: int, offset: int = 0, taken_bytes: int = 0) -> None:
    """In steps: where the file system cannot, the C library writes zeros, and a cancelled one must end."""
    await on_disk(need_room, folder, max(0, size_bytes - offset - taken_bytes))
    try:
        while offset < size_bytes:
            step = min(_ALLOCATE_STEP_BYTES, size_bytes - offset)
            await finish_on_disk(os.posix_fallocate, fd, offset, step)
            offset += step
            await asyncio.sleep(0)
    except OSError as e:
        if e.errno in _FULL:
            raise _no_space(folder, size_bytes - offset) from e
        raise


def _no_space(folder: Path, missing_bytes: int | None) -> NoSpace:
    short = "" if missing_bytes is None else f": {missing_bytes} bytes are missing"
    return NoSpace(f"the file system of {folder} is full{short}", hint="remove disks or images that nobody needs, or give it more space")
