"""A file that is not all there yet, and what is known of it.

Two files in one folder: the data, and a record of what they are part of. The record says how much of the data is on disk for certain, so
that neither a killed engine nor a power cut leaves a hole that nobody sees: what lies beyond is fetched again.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec

from pilvi.errors import UserError
from pilvi.lib.disk import finish_on_disk
from pilvi.lib.files import find_json, write_json
from pilvi.transfer.meter import Meter

__all__ = ["Partial", "Record", "Writer", "store"]

SYNC_BYTES = 64 << 20
SYNC_S = 2.0
"""A slow download loses no more than that when the engine is killed, a fast one no more than SYNC_BYTES."""
CHUNK_BYTES = 1 << 20


class Record(msgspec.Struct, kw_only=True):
    """What the data are part of. `validator` is the server's ETag or Last-Modified, empty when it gives none that can be relied on."""

    url: str
    validator: str = ""
    total: int | None = None
    synced: int = 0
    complete: bool = False


class Partial:
    """The data and their record in `folder`, which is made. All methods block, shortly."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "download"
        self._record = folder / "download.json"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, url: str) -> Record | None:
        """What is there of `url`; None when nothing is that can be used."""
        try:
            found = find_json(self._record)
            record = msgspec.convert(found, Record) if found is not None else None
        except (UserError, msgspec.ValidationError):
            return None
        if record is None or record.url != url or not self.data.exists() or self.data.stat().st_size < record.synced:
            return None
        if record.synced == record.total:
            record.complete = True  # it ended between the last byte and the last record
        return record if record.complete or (record.synced and record.validator) else None

    def discard(self) -> None:
        """Forget what is there."""
        for path in (self._record, self.data):
            with suppress(FileNotFoundError):
                path.unlink()

    def start(self, record: Record) -> Writer:
        """A writer that appends to the first `record.synced` bytes, or begins anew when these are none."""
        if not record.synced:
            self.discard()
        return Writer(self.data, record, self._record)


class Writer:
    """The data while they are written. All methods block; `close` must be called."""

    def __init__(self, data: Path, record: Record, path: Path) -> None:
        self._record = record
        self._path = path
        self._written = record.synced
        self._synced_at = 0.0
        self._fd = os.open(data, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(self._fd, record.synced)
            os.lseek(self._fd, record.synced, os.SEEK_SET)
            self._sync()
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, data: bytes) -> None:
        """Append. Raises OSError when the disk is full; what went before stays."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._written += len(data)
        if self._written - self._record.synced >= SYNC_BYTES or time.monotonic() - self._synced_at >= SYNC_S:
            self._sync()

    def close(self, *, complete: bool) -> None:
        """Put all on disk and record it. `complete`: nothing is missing."""
        try:
            self._record.complete = complete
            self._sync()
        finally:
            os.close(self._fd)

    def _sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()
        self._record.synced = self._written
        write_json(self._path, self._record)


async def store(chunks: AsyncIterator[bytes], partial: Partial, record: Record, meter: Meter) -> bool:
    """Append what comes; returns whether all of `record.total` is there now. What came before an error or cancellation is kept."""
    meter.done, meter.total = record.synced, record.total
    writer = await finish_on_disk(partial.start, record)
    buffer = bytearray()
    complete = False
    try:
        try:
            async for chunk in chunks:
                buffer += chunk
                if len(buffer) >= CHUNK_BYTES:
                    data, buffer = bytes(buffer), bytearray()
                    await finish_on_disk(writer.write, data)
                    meter.done += len(data)
        finally:
            await finish_on_disk(writer.write, bytes(buffer))
            meter.done += len(buffer)
        complete = record.total is None or meter.done == record.total
    finally:
        await finish_on_disk(writer.close, complete=complete)
    return complete
