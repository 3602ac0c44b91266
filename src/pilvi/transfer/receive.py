"""What a client sends: kept like a download, whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

from pilvi.errors import NoSpace, Transient
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.transfer.meter import Meter
from pilvi.transfer.partial import Partial, Record, store

__all__ = ["find_received", "receive"]

_FROM = "a client"


async def receive(chunks: AsyncIterator[bytes], folder: Path, total: int | None) -> None:
    """Keep all of `chunks`, `total` bytes if that is known, in `folder`. Raises Transient for a stream that ends early, and NoSpace.

    After failure or cancellation nothing is kept.
    """
    partial = await on_disk(Partial, folder)
    try:
        complete = await store(chunks, partial, Record(url=_FROM, total=total), Meter())
        if not complete:
            raise Transient(f"the upload ended before its {total} bytes were here")
    except BaseException as e:
        await finish_on_disk(partial.discard)
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the file system of {folder} is full", hint="remove disks or images that nobody needs") from e
        raise


def find_received(folder: Path) -> Path | None:
    """What was received whole, None when nothing was."""
    if not folder.exists():
        return None
    partial = Partial(folder)
    record = partial.find(_FROM)
    return partial.data if record is not None and record.complete else None
