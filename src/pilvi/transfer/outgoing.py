"""A disk on its way to a client: read block by block, without holes, and only as long as nobody writes to it.

`Outgoing` reads, `Gzip` packs what was read. All methods block, for a block at most; callers run them in threads.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from functools import cache
from pathlib import Path

from pilvi.errors import Transient

__all__ = ["BLOCK_BYTES", "Gzip", "Outgoing"]

BLOCK_BYTES = 1 << 20
"""Bytes that are read, packed and held at a time."""


class Outgoing:
    """The disk at `path`, as it is when it is opened. `close` must be called in any case."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._state = (0, 0, 0)

    def open(self) -> None:
        """Open it. Raises OSError; a link is not followed."""
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._state = self._look()

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return self._state[2]

    @property
    def tag(self) -> str:
        """An entity tag: another one when the disk has been written to, the same after the engine was started again."""
        return '"' + "-".join(f"{number:x}" for number in self._state) + '"'

    def read(self, start: int, stop: int) -> bytes | None:
        """The bytes from `start` to `stop`; None when nothing was ever written there, which is zeros.

        Raises Transient when the disk was written to since it was opened: what was read before is then no part of any one disk.
        """
        data = None if self._is_hole(start, stop) else self._read(start, stop)
        if self._look() != self._state:
            raise Transient("the disk was written to while it was read")
        return data

    def close(self) -> None:
        """Let the disk go. May be called repeatedly."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _is_hole(self, start: int, stop: int) -> bool:
        try:
            return os.lseek(self._fd, start, os.SEEK_DATA) >= stop
        except OSError as e:
            if e.errno == errno.ENXIO:  # none up to its end
                return True
            raise

    def _read(self, start: int, stop: int) -> bytes:
        data = os.pread(self._fd, stop - start, start)
        while start + len(data) < stop:
            more = os.pread(self._fd, stop - start - len(data), start + len(data))
            if not more:
                raise Transient("the disk was made smaller while it was read")
            data += more
        return data


class Gzip:
    """One gzip stream of blocks. A hole costs neither reading nor packing: what it becomes is known.

    Each block is packed for itself and ends on a byte, so packed blocks can follow each other in any order, and a constant stands for
    one of zeros.
    """

    HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"

    def __init__(self) -> None:
        self._crc = 0
        self._size = 0

    def pack(self, data: bytes | None, size_bytes: int) -> bytes:
        """The next bytes of the stream: `data`, or so many zeros."""
        self._size += size_bytes
        if data is None and size_bytes == BLOCK_BYTES:
            self._crc = _crc_with_zeros(self._crc)
            return _packed_zeros()
        data = bytes(size_bytes) if data is None else data
        self._crc = zlib.crc32(data, self._crc)
        return _deflate(data)

    def end(self) -> bytes:
        """The last bytes of the stream."""
        return b"\x03\x00" + struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF)


def _deflate(data: bytes, level: int = 1) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


@cache
def _packed_zeros() -> bytes:
    return _deflate(bytes(BLOCK_BYTES), level=9)


@cache
def _zeros_by_bit() -> tuple[int, tuple[int, ...]]:
    """What a block of zeros makes of a checksum: of 0, and how each bit of another one changes that. A CRC is affine."""
    zeros = bytes(BLOCK_BYTES)
    of_none = zlib.crc32(zeros, 0)
    return of_none, tuple(zlib.crc32(zeros, 1 << bit) ^ of_none for bit in range(32))


def _crc_with_zeros(crc: int) -> int:
    """`zlib.crc32(bytes(BLOCK_BYTES), crc)` without looking at them: a hole may be terabytes long."""
    result, by_bit = _zeros_by_bit()
    for bit, change in enumerate(by_bit):
        if crc >> bit & 1:
            result ^= change
    return result
