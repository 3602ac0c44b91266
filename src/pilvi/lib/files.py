"""Files that are whole or absent, whatever happens, and trees that are removed without reaching into a mount.

All functions block for as long as the disk takes: small files are fine in the event loop, trees belong in `lib.disk`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pilvi.errors import PilviError, UserError

__all__ = ["find_json", "find_mounts_below", "open_below", "read_json", "remove_tree", "write_atomic", "write_json"]

_UNFINISHED = ".pilvi-new"


def write_atomic(path: Path, data: str | bytes, *, mode: int = 0o644, owner: tuple[int, int] | None = None, durable: bool = True) -> None:
    """Make `path` hold exactly `data`, with `mode` and `owner` (uid, gid), or leave it as it was.

    The content is on disk before the name points to it (fsync of file and directory), and no reader ever sees a part of it or
    a wider mode. A symlink at `path` is replaced, not followed. Raises OSError. `durable=False` leaves the disk its time, for files that
    are compared and made again at every start: after a power cut they may be old, empty or absent. What a writer that was killed
    left beside `path` is removed.
    """
    content = data.encode() if isinstance(data, str) else data
    _remove_abandoned(path)
    fd, temporary = _open_unfinished(path)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


def read_json(path: Path) -> Any:
    """The decoded content of a JSON file. Raises OSError, or UserError when it is not JSON."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as e:
        raise UserError(f"file {path} does not hold JSON", hint=f"look at {path}; if it was cut off, remove it") from e


def find_json(path: Path) -> Any | None:
    """Like `read_json`, but None when there is no such file."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


def write_json(path: Path, value: Any, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """`write_atomic` of `value` (plain data or a msgspec struct) as indented JSON with a final newline."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n", mode=mode, owner=owner)


def open_below(folder: Path, relative: Path) -> BinaryIO:
    """Open the regular file `folder/relative` for reading. Below `folder` no link is followed, at whatever moment it is put there.

    For files that somebody else may replace. Raises OSError, also when it is no regular file (a pipe would be waited for).
    """
    *folders, name = relative.parts
    with contextlib.ExitStack() as opened:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, place)
        for part in folders:
            place = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            opened.callback(os.close, place)
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", str(folder / relative))
    return os.fdopen(file, "rb")


def find_mounts_below(path: Path) -> list[Path]:
    """Mount points at or below `path` in this mount namespace, deepest first."""
    root = os.path.realpath(path)
    points = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # Field 5, with space, tab, newline and backslash as octal escapes (proc(5)).
        point = os.fsdecode(line.split(b" ")[4].decode("unicode_escape").encode("latin-1"))
        if point == root or point.startswith(root.rstrip("/") + "/"):
            points.append(Path(point))
    return sorted(points, key=lambda point: len(point.parts), reverse=True)


def remove_tree(path: Path) -> None:
    """Remove `path` and everything below it; nothing there is fine.

    Refuses with PilviError, before anything is removed, when something is mounted at or below it: a bind mount has the same
    device number as its source, so only the mount table tells that the files belong to somebody else. Symlinks are removed,
    never followed.
    Raises OSError when the disk refuses.
    """
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if mounts := find_mounts_below(path):
        raise PilviError(f"{path} is not removed: {mounts[0]} is a mount point; unmount it first")
    shutil.rmtree(path)


def _open_unfinished(path: Path) -> tuple[int, str]:
    """A new file beside `path`, locked for as long as it is open: that says that somebody is at work on it."""
    while True:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(temporary):
            return fd, temporary
        os.close(fd)  # taken for an abandoned one before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove unfinished files of `path` that nobody is at work on."""
    for unfinished in path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}"):
        try:
            fd = os.open(unfinished, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # finished meanwhile, or no file of ours
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unfinished.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
