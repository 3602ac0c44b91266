"""The files of volumes and of their copies: one folder for each below `<home>/volumes`, in it one sparse raw disk.

A disk is there whole or not at all. All functions block for as long as the disk takes: call them by `lib.disk`. They raise OSError,
and NoSpace where it is said.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

from pilvi.errors import NoSpace
from pilvi.lib.files import remove_tree, write_atomic

__all__ = [
    "allocated_bytes",
    "can_reflink",
    "create",
    "find_size",
    "free_bytes",
    "grow",
    "keep",
    "list_folders",
    "publish",
    "reflink",
    "remove",
    "room",
    "unfinished",
]

_FICLONE = 0x40049409  # ioctl_ficlonerange(2)
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
_KEPT = "kept"


def find_size(disk: Path) -> int | None:
    """Size of a disk in bytes; None when there is none."""
    try:
        return disk.stat().st_size
    except FileNotFoundError:
        return None


def allocated_bytes(disk: Path) -> int:
    """What a disk takes of its file system now, in bytes."""
    return disk.stat().st_blocks * 512


def free_bytes(folder: Path) -> int:
    """What is free on the file system of a folder, in bytes."""
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize


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


def create(disk: Path, size_bytes: int) -> None:
    """Make an empty disk of that size, for root only. One that is there stays as it is."""
    if disk.exists():
        return
    new = unfinished(disk)
    fd = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, size_bytes)
    finally:
        os.close(fd)
    publish(new, disk, size_bytes)


def reflink(source: Path, disk: Path, size_bytes: int) -> bool:
    """Make `disk` share the blocks of `source`, as that is at this moment, and be of that size, which is not less.

    False when the file system cannot; then nothing is there.
    """
    new = unfinished(disk)
    try:
        with source.open("rb") as old, open(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600), "wb") as target:
            fcntl.ioctl(target.fileno(), _FICLONE, old.fileno())
    except OSError as e:
        new.unlink(missing_ok=True)
        if e.errno in _NO_REFLINK:
            return False
        raise
    publish(new, disk, size_bytes)
    return True


def unfinished(disk: Path) -> Path:
    """Where the content of `disk` is written before it has its name. The folder is made, what an earlier try has left goes."""
    disk.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = disk.with_name(f".{disk.name}.new")
    new.unlink(missing_ok=True)
    return new


def publish(new: Path, disk: Path, size_bytes: int) -> None:
    """Give a disk that has been written its size and its name, both on disk on return."""
    fd = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.truncate(fd, size_bytes)
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, disk)
    for folder in (disk.parent, disk.parent.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def grow(disk: Path, size_bytes: int) -> None:
    """Give a disk that size, unless it is as large already. Raises NoSpace, before anything is changed."""
    fd = os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size < size_bytes:
            room(disk, size_bytes)
            os.truncate(fd, size_bytes)
            os.fsync(fd)
    finally:
        os.close(fd)


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


def can_reflink(volumes: Path) -> bool:
    """Whether files there can share blocks, found out with two files that are removed again."""
    volumes.mkdir(mode=0o700, parents=True, exist_ok=True)
    trial = volumes / ".trial"
    remove_tree(trial)
    try:
        source = trial / "from" / "disk.img"
        create(source, 1 << 20)
        return reflink(source, trial / "to" / "disk.img", 1 << 20)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB"
