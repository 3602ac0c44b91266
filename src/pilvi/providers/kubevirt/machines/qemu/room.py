"""Room on the disks that machines write to. A guest whose write finds none is stopped by QEMU and goes on when there is some again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from pilvi.lib.disk import on_disk

__all__ = ["NO_ROOM", "has_room", "wait_for_room"]

NO_ROOM = "VMI was paused, IO error: the disk of the cloud's home is full; make room there, and the guest goes on by itself"

_LOOK_S = 2.0
# Enough that a guest which goes on does not stop again at its next write.
_ENOUGH_BYTES = 64 << 20
_ENOUGH_SHARE = 20  # of a small disk


async def wait_for_room(folders: Iterable[Path]) -> None:
    """Return when all of these folders that exist have room; they are looked at every two seconds."""
    while True:
        await asyncio.sleep(_LOOK_S)
        if await on_disk(lambda: all(has_room(folder) for folder in folders)):
            return


def has_room(folder: Path) -> bool:
    """Whether programs without privileges can write there; a folder that is not there is written to by nobody."""
    try:
        disk = os.statvfs(folder)
    except FileNotFoundError:
        return True
    return disk.f_bavail * disk.f_frsize >= min(_ENOUGH_BYTES, disk.f_blocks * disk.f_frsize // _ENOUGH_SHARE)
