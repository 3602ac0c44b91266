"""Lock files that can be removed while others wait for them, and the folder for those that only root may take."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pilvi.errors import UserError

__all__ = ["LOCKS", "find_lock", "hold_lock", "take_lock"]

LOCKS = Path("/run/pilvi")
"""Where locks of root's commands lie. /run/lock is no place for them: any user of the host may make or hold a file there."""


def find_lock(path: Path) -> int | None:
    """The descriptor of the locked file, or None when somebody else has it. Closing it lets go; the file may be removed before."""
    return _lock(path, fcntl.LOCK_NB)


def take_lock(path: Path) -> int:
    """Like `find_lock`, but waits. Only for locks that are held for milliseconds."""
    while (descriptor := _lock(path, 0)) is None:
        pass
    return descriptor


@contextmanager
def hold_lock(path: Path) -> Iterator[int | None]:
    """Have the lock while the block runs: yields None. When another process has it, yields its pid instead, 0 when it is not known.

    The folder of `path` is made, and must belong to this user and be writable by no other: UserError. The file is removed at the end,
    and so is the folder unless something else is in it.
    """
    lock = _make_and_lock(path)
    if lock is None:
        yield _holder(path)
        return
    try:
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield None
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # a cloud's run folder or another lock is in it
            path.parent.rmdir()
        os.close(lock)


def _make_and_lock(path: Path) -> int | None:
    while True:
        _ensure_private_folder(path.parent)
        with suppress(FileNotFoundError):  # who had a lock beside ours has just removed the folder
            return find_lock(path)


def _holder(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii") or "0")
    except (FileNotFoundError, ValueError):
        return 0  # it has ended just now, or has not come to write its pid


def _ensure_private_folder(path: Path) -> None:
    """Once it is known to be ours, nobody else can put another in its place: the folder above it (/run) is root's as well."""
    try:
        path.mkdir(mode=0o755)
    except FileExistsError:
        pass
    else:
        path.chmod(0o755)  # whatever the umask: units with users of their own have folders in it
    found = path.lstat()
    others = 0o002 if found.st_gid == os.getegid() else 0o022
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & others:
        raise UserError(
            f"{path} is no folder of root's that root alone may write", hint=f"see who made it (`ls -ld {path}`), then remove it"
        )


def _lock(path: Path, flags: int) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
