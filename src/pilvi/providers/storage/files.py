"""The folders of volumes and of their copies: one for each below `<home>/volumes`, in it one sparse raw disk (`host/disks`).

What is no coroutine blocks for as long as the disk takes: call it by `lib.disk`. All raise OSError, and NoSpace where it is said.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pilvi.errors import NoSpace, Transient
from pilvi.host.disks import allocated_bytes, clone_file, create_disk, free_bytes, grow_disk
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.lib.files import remove_tree, write_atomic

__all__ = ["copy", "create", "find_size", "grow", "keep", "list_folders", "make_folder", "remove", "room"]

_KEPT = "kept"


def find_size(disk: Path) -> int | None:
    """Size of a disk in bytes; None when there is none."""
    try:
        return disk.stat().st_size
    except FileNotFoundError:
        return None


def room(disk: Path, size_bytes: int) -> None:
    """Raises NoSpace when a disk of that size could not be filled with what is free now. `disk` need not be there yet.

    Volumes are thin: what is promised to all of them together may be more.
    """
    folder = next(parent for parent in disk.parents if parent.exists())
    free = free_bytes(folder)
    needed = size_bytes - (allocated_bytes(disk) if disk.exists() else 0)
    if needed > free:
        raise NoSpace(
            f"a disk of {_mib(size_bytes)} could not be filled: {_mib(free)} are free on the file system of {folder}",
            hint="ask for less, or make room there; it is tried again by itself",
        )


async def create(disk: Path, size_bytes: int) -> None:
    """Make an empty disk of that size, for root only. One that is there stays as it is. Raises NoSpace."""
    if await on_disk(find_size, disk) is None:
        await on_disk(make_folder, disk.parent)
        await create_disk(disk, size_bytes)


async def copy(source: Path, disk: Path, size_bytes: int) -> Literal["reflink", "copy"]:
    """Make `disk` a copy of `source`, grown to that size. It is there whole or not at all.

    Raises NoSpace, Transient when the source is gone, or was written to while its blocks were copied: that copy would show no one moment.
    """
    copied = disk.with_name(f"{disk.name}.copied")
    try:
        before = await on_disk(source.stat)
        await on_disk(make_folder, disk.parent)
        method = await clone_file(source, copied, size_bytes=size_bytes)
        after = await on_disk(source.stat)
        if method == "copy" and (after.st_mtime_ns, after.st_ino) != (before.st_mtime_ns, before.st_ino):
            raise Transient(
                "the disk was written to while it was copied, and this file system cannot share blocks between files;"
                " stop or pause its machine, and the copy is made",
                retry_after_s=10.0,
            )
        await finish_on_disk(_settle, copied, disk)
    except FileNotFoundError as e:
        raise Transient(f"the disk to copy is not there: {e.filename}", retry_after_s=10.0) from e
    finally:
        copied.unlink(missing_ok=True)  # after the end: it has another name
    return method


async def grow(disk: Path, size_bytes: int) -> None:
    """Give a disk that size, unless it is as large already. Raises NoSpace, before anything is changed."""
    before = await on_disk(disk.stat)
    if before.st_size < size_bytes:
        await on_disk(room, disk, size_bytes)
        await grow_disk(disk, size_bytes)


def make_folder(folder: Path) -> None:
    """Make the folder of a volume, which only root enters, so that it is there after a power cut; one that is there is fine."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(folder.parent)


def keep(folder: Path, why: str) -> None:
    """Say that a folder stays although nothing in the API names it any more; `why` is for who looks at it."""
    if folder.exists():
        write_atomic(folder / _KEPT, f"{why}\n", mode=0o600)


def remove(folder: Path) -> None:
    """Remove a folder with its disk; none is fine."""
    remove_tree(folder)


def list_folders(volumes: Path) -> list[str]:
    """Names of all folders that are not kept."""
    if not volumes.exists():
        return []
    return sorted(path.name for path in volumes.iterdir() if path.is_dir() and not (path / _KEPT).exists())


def _settle(copied: Path, disk: Path) -> None:
    os.replace(copied, disk)
    _sync(disk.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB"
