"""Unpacks gz, xz, zst and bz2, recognised by their first bytes and never by a name. The result is sparse where it holds zeros."""

from __future__ import annotations

import bz2
import errno
import lzma
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pilvi.errors import NoSpace, Unusable
from pilvi.lib.disk import finish_on_disk
from pilvi.transfer.meter import Meter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["find_compression", "unpack"]

READ_BYTES = 1 << 20
WRITE_BYTES = 4 << 20
BLOCK_BYTES = 64 << 10
XZ_MEMORY_BYTES = 256 << 20
"""A dictionary larger than this is no image that somebody published, but an attack on the engine's memory."""

_MAGIC = {"gz": b"\x1f\x8b\x08", "xz": b"\xfd7zXZ\x00", "zst": b"\x28\xb5\x2f\xfd", "bz2": b"BZh"}


class _Decompressor(Protocol):
    """What bz2, lzma and zstd have in common: one stream, at most `max_length` bytes at a time."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib in the same form."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(max_length, 0))


_MAKERS: dict[str, Callable[[], _Decompressor]] = {
    "gz": _Gzip,
    "xz": lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY_BYTES),
    "zst": lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27}),
    "bz2": bz2.BZ2Decompressor,
}


def find_compression(path: Path) -> str | None:
    """`gz`, `xz`, `zst`, `bz2`, or None when the file is none of them."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), None)


async def unpack(source: Path, target: Path, compression: str, limit_bytes: int, meter: Meter) -> None:
    """Unpack `source` into `target`, which is replaced. `meter` counts bytes of `source`.

    Raises Unusable when the data are damaged, cut off, or larger than `limit_bytes`, and NoSpace. Then there is no `target`.
    """
    try:
        with source.open("rb") as packed, target.open("wb") as file:
            meter.begin("unpacking", os.fstat(packed.fileno()).st_size)
            work = _Unpacking(packed.fileno(), file.fileno(), _MAKERS[compression], limit_bytes)
            while await finish_on_disk(work.step):
                meter.done = work.read
    except BaseException as e:
        await finish_on_disk(target.unlink, missing_ok=True)
        if isinstance(e, EOFError):
            raise Unusable(f"the {compression} data are cut off", hint="the file at the source is not whole; publish it again") from e
        if isinstance(e, zlib.error | lzma.LZMAError | zstd.ZstdError) or (isinstance(e, OSError) and e.errno is None):
            raise Unusable(f"the {compression} data are damaged: {e}", hint="give a checksum to tell which side damaged them") from e
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"the file system of {target.parent} is full", hint="remove disks or images that nobody needs; the import goes on by itself"
            ) from e
        raise


class _Unpacking:
    """The state between steps. A file may hold several streams one after the other, as parallel compressors write them."""

    def __init__(self, source: int, target: int, make: Callable[[], _Decompressor], limit_bytes: int) -> None:
        self.read = 0
        self._source, self._target, self._make, self._limit = source, target, make, limit_bytes
        self._decompressor = make()
        self._rest = b""
        self._written = 0

    def step(self) -> bool:
        """Unpack a piece; False at the end. Blocks."""
        if self._decompressor.eof:
            self._rest = self._decompressor.unused_data or self._next()
            # Zeros after the last stream are padding (tapes, xz).
            if not self._rest.strip(b"\0"):
                os.ftruncate(self._target, self._written)
                os.fsync(self._target)
                return False
            self._decompressor = self._make()
        data, self._rest = self._rest, b""
        if not data and self._decompressor.needs_input:
            data = self._next()
        unpacked = self._decompressor.decompress(data, WRITE_BYTES)
        if not data and not unpacked and self._decompressor.needs_input and not self._decompressor.eof:
            raise EOFError
        self._write(unpacked)
        return True

    def _next(self) -> bytes:
        data = os.read(self._source, READ_BYTES)
        self.read += len(data)
        return data

    def _write(self, data: bytes) -> None:
        if self._written + len(data) > self._limit:
            raise Unusable(
                f"the unpacked image is larger than the {self._limit} bytes that its disk has room for",
                hint="ask for a larger disk, below resources.requests.storage",
            )
        for start in range(0, len(data), BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            if block.count(0) != len(block):
                os.pwrite(self._target, block, self._written + start)
        self._written += len(data)
