"""Lock files that can be removed while others wait for them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["find_lock", "take_lock"]


def find_lock(path: Path) -> int | None:
    """The descriptor of the locked file, or None when somebody else has it. Closing it lets go; the file may be removed before."""
    return _lock(path, fcntl.LOCK_NB)


def take_lock(path: Path) -> int:
    """Like `find_lock`, but waits. Only for locks that are held for milliseconds."""
    while (descriptor := _lock(path, 0)) is None:
        pass
    return descriptor


def _lock(path: Path, flags: int) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        # The holder may have removed the file: then this is the lock of a file that nobody else sees.
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
