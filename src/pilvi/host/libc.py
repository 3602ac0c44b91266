"""The few system calls that Python 3.11 lacks: setns, unshare, mount, umount2, fallocate with a mode."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["CLONE_NEWNET", "mount", "punch_hole", "setns", "umount", "unshare"]

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that `fd` refers to; `kind` is its CLONE_ flag. Raises OSError."""
    _check(_libc.setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces. Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: Path | str, fs_type: str | None, flags: int, options: str = "") -> None:
    """The system call of that name. Raises OSError that names the target."""
    result = _libc.mount(source.encode(), os.fsencode(target), fs_type.encode() if fs_type else None, flags, options.encode() or None)
    _check(result, str(target))


def umount(target: Path | str, flags: int = 0) -> None:
    """The system call umount2. Raises OSError that names the target."""
    _check(_libc.umount2(os.fsencode(target), flags), str(target))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give the blocks of a part of an open file back; it reads as zeros afterwards. Raises OSError."""
    _check(_libc.fallocate64(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length), "fallocate")


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
