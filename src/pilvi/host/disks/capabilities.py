"""What a file system can do for disks, found out by doing it: its name alone says little."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

import msgspec

from pilvi.host.disks.files import reflink
from pilvi.host.libc import punch_hole
from pilvi.lib.disk import on_disk

__all__ = ["Capabilities", "find_capabilities"]

_BLOCK = 1 << 16
_REFUSALS = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EPERM)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """`reflink`: files share blocks, so a clone takes no time and no room. `direct_io`: past the host's cache, which `cache=none` needs.
    `punch_hole`: what a guest discards is given back.
    """

    reflink: bool
    direct_io: bool
    punch_hole: bool


async def find_capabilities(folder: Path) -> Capabilities:
    """Try it with two files of 64 KiB that have no names. Raises OSError (no folder, no room)."""
    return await on_disk(_find, folder)


def _find(folder: Path) -> Capabilities:
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as two:
        one.write(b"\xaa" * _BLOCK)
        one.flush()
        os.fsync(one.fileno())
        shared = reflink(one.fileno(), two.fileno())
        return Capabilities(reflink=shared, direct_io=_try_direct(one.fileno()), punch_hole=_try_hole(one.fileno()))


def _try_direct(fd: int) -> bool:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        with mmap.mmap(-1, _BLOCK) as aligned:
            return os.pwritev(fd, [aligned], 0) == _BLOCK
    except OSError as e:
        if e.errno in _REFUSALS:
            return False
        raise
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)


def _try_hole(fd: int) -> bool:
    os.pwrite(fd, b"\xaa" * _BLOCK, 0)
    try:
        punch_hole(fd, 0, _BLOCK)
    except OSError as e:
        if e.errno in _REFUSALS:
            return False
        raise
    return os.pread(fd, _BLOCK, 0) == bytes(_BLOCK)
