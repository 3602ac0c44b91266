"""Mounting and unmounting in this mount namespace. All functions may be called repeatedly."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pilvi.host import libc
from pilvi.lib.files import find_mounts_below

__all__ = [
    "Mount",
    "bind",
    "find_mount",
    "list_mounts",
    "make_private",
    "make_shared",
    "mount_overlay",
    "mount_tmpfs",
    "unmount",
    "unmount_below",
]

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SHARED = 1, 2, 4, 32, 4096, 16384, 1 << 18, 1 << 20
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class Mount(msgspec.Struct, frozen=True):
    """One line of /proc/self/mountinfo."""

    point: Path
    fs_type: str
    source: str
    options: str


def list_mounts(below: Path = Path("/")) -> list[Mount]:
    """All mounts at or below a path, in the order of the kernel: what was mounted later comes later."""
    root = os.path.realpath(below)
    found = []
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            left, _, right = line.partition(b" - ")
            point = _unescape(left.split(b" ")[4])
            if point == root or point.startswith(root.rstrip("/") + "/"):
                fs_type, source, options = right.rstrip(b"\n").split(b" ", 2)
                found.append(Mount(Path(point), os.fsdecode(fs_type), _unescape(source), _unescape(options)))
    return found


def find_mount(point: Path) -> Mount | None:
    """What is mounted exactly there (the topmost when several are), or None."""
    real = Path(os.path.realpath(point))
    return next((mount for mount in reversed(list_mounts(real)) if mount.point == real), None)


def bind(source: Path, target: Path, *, read_only: bool = False, recursive: bool = False) -> None:
    """Show `source` at `target` as well. Raises OSError."""
    libc.mount(str(source), target, None, _MS_BIND | (_MS_REC if recursive else 0))
    if read_only:
        # The kernel ignores the flag on the first call.
        libc.mount("none", target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)


def mount_tmpfs(target: Path, *, size_bytes: int | None = None, mode: int = 0o755) -> None:
    """Mount an empty file system in memory, unless a tmpfs is there already. Raises OSError."""
    mounted = find_mount(target)
    if mounted is not None and mounted.fs_type == "tmpfs":
        return
    options = f"mode={mode:o}" + ("" if size_bytes is None else f",size={size_bytes}")
    libc.mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def mount_overlay(target: Path, *, lower: Sequence[Path], upper: Path | None = None, work: Path | None = None) -> None:
    """Mount the layers `lower` (the first is on top), and the writable `upper` over them, unless an overlay is there already.

    `upper` and `work` go together, must be on one file system, and that may not be an overlay. Raises OSError, and ValueError for
    a path that overlay options cannot hold.
    """
    mounted = find_mount(target)
    if mounted is not None and mounted.fs_type == "overlay":
        return
    layers = [*lower, *(path for path in (upper, work) if path is not None)]
    if any(mark in str(path) for path in layers for mark in ",:\\"):
        raise ValueError(f"a layer's path has a comma, colon or backslash: {layers}")
    options = "lowerdir=" + ":".join(map(str, lower))
    if upper is not None and work is not None:
        options += f",upperdir={upper},workdir={work}"
    libc.mount("overlay", target, "overlay", 0 if upper else _MS_RDONLY, options)


def make_shared(point: Path) -> None:
    """Let mounts below `point` spread to the copies of it in other mount namespaces."""
    libc.mount("none", point, None, _MS_SHARED)


def make_private(point: Path) -> None:
    """The opposite of `make_shared`."""
    libc.mount("none", point, None, _MS_PRIVATE)


def unmount(point: Path, *, lazy: bool = True) -> None:
    """Unmount everything that is mounted exactly there; nothing mounted is fine.

    Lazy: it disappears at once, and is let go when the last user ends. Else raises OSError with EBUSY while it is used.
    """
    while find_mount(point) is not None:
        try:
            libc.umount(point, (_MNT_DETACH if lazy else 0) | _UMOUNT_NOFOLLOW)
        except OSError as e:
            # EINVAL: somebody else was faster.
            if e.errno not in (errno.EINVAL, errno.ENOENT):
                raise


def unmount_below(path: Path) -> list[Path]:
    """Unmount everything at or below `path`, the deepest first, and return what was mounted."""
    points = find_mounts_below(path)
    for point in points:
        unmount(point)
    return points


def _unescape(field: bytes) -> str:
    """Space, tab, newline and backslash are octal escapes there (proc(5))."""
    return os.fsdecode(field.decode("unicode_escape").encode("latin-1") if b"\\" in field else field)
