"""Log files of units: bounded, and read from the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

__all__ = ["LOG_LIMIT_BYTES", "TAIL_BYTES", "rotate", "shorten", "tail"]

LOG_LIMIT_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 4096


def rotate(path: Path) -> None:
    """Before a start: make the folder, and put a log that is too long aside as `<name>.1`, in place of an older one."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.rename(path.with_name(f"{path.name}.1"))


def shorten(path: Path) -> None:
    """While the unit runs and writes: copy a log that is too long to `<name>.1` and empty it.

    The unit appends, so it goes on at the beginning of the emptied file. Lines written between copy and truncation are lost. The
    copy is made by the kernel. Raises OSError when it cannot be made; the log is emptied all the same, since a full disk is the most
    likely cause.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size <= LOG_LIMIT_BYTES:
        return
    with open(path, "r+b") as log:
        try:
            _copy_end(log, size, path.with_name(f"{path.name}.1"))
        finally:
            log.truncate(0)


def _copy_end(log: BinaryIO, size_bytes: int, path: Path) -> None:
    with open(path, "wb") as aside:
        os.fchmod(aside.fileno(), 0o640)
        offset = size_bytes - LOG_LIMIT_BYTES
        while (sent := os.sendfile(aside.fileno(), log.fileno(), offset, size_bytes - offset)) > 0:
            offset += sent


def tail(path: Path, size_bytes: int = TAIL_BYTES) -> str:
    """The last whole lines within the last `size_bytes`; empty without a log."""
    try:
        with open(path, "rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(0, end - size_bytes))
            data = log.read(size_bytes)
    except FileNotFoundError:
        return ""
    text = data.decode("utf-8", "replace")
    return text.partition("\n")[2] if end > size_bytes and "\n" in text else text
