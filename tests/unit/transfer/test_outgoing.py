"""Disks on their way to clients."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import Transient
from pilvi.transfer import BLOCK_BYTES, Gzip, Outgoing


def sparse(path: Path, size_bytes: int, *pieces: tuple[int, bytes]) -> Path:
    with path.open("wb") as disk:
        disk.truncate(size_bytes)
        for offset, data in pieces:
            disk.seek(offset)
            disk.write(data)
    return path


def opened(path: Path) -> Outgoing:
    disk = Outgoing(path)
    disk.open()
    return disk


def packed(disk: Outgoing) -> bytes:
    gz, stream = Gzip(), [Gzip.HEAD]
    for start in range(0, disk.size_bytes, BLOCK_BYTES):
        stop = min(start + BLOCK_BYTES, disk.size_bytes)
        stream.append(gz.pack(disk.read(start, stop), stop - start))
    return b"".join([*stream, gz.end()])


@pytest.mark.parametrize(
    ("size_bytes", "pieces"),
    [
        (0, []),
        (5, []),
        (5, [(0, b"hello")]),
        (BLOCK_BYTES, [(BLOCK_BYTES - 1, b"x")]),
        (4 * BLOCK_BYTES, []),
        (4 * BLOCK_BYTES + 4096, [(0, b"head"), (3 * BLOCK_BYTES, b"tail")]),
        (3 * BLOCK_BYTES, [(BLOCK_BYTES - 2, b"across")]),
    ],
)
def test_what_is_packed_is_one_gzip_stream_of_the_disk(tmp_path: Path, size_bytes: int, pieces: list[tuple[int, bytes]]) -> None:
    path = sparse(tmp_path / "disk.img", size_bytes, *pieces)
    disk = opened(path)
    try:
        stream = packed(disk)
    finally:
        disk.close()
    assert gzip.decompress(stream) == path.read_bytes()
    one = zlib.decompressobj(wbits=31)  # reads one member and no more, as some programs do
    assert (one.decompress(stream), one.eof, one.unused_data) == (path.read_bytes(), True, b"")


@given(st.lists(st.one_of(st.none(), st.binary(max_size=64)), max_size=6))
def test_zeros_and_data_follow_each_other_in_any_order(blocks: list[bytes | None]) -> None:
    gz, expected, stream = Gzip(), io.BytesIO(), [Gzip.HEAD]
    for block in blocks:
        size = BLOCK_BYTES if block is None else len(block)
        stream.append(gz.pack(block, size))
        expected.write(bytes(size) if block is None else block)
    assert gzip.decompress(b"".join([*stream, gz.end()])) == expected.getvalue()


def test_a_hole_is_neither_read_nor_long_when_it_is_packed(tmp_path: Path) -> None:
    disk = opened(sparse(tmp_path / "disk.img", 1 << 40, (0, b"x")))
    try:
        assert disk.read(1 << 39, (1 << 39) + BLOCK_BYTES) is None
        first = disk.read(0, BLOCK_BYTES)
        assert first is not None
        assert first[:1] == b"x"
        assert len(Gzip().pack(None, BLOCK_BYTES)) < 2048
    finally:
        disk.close()


def test_a_disk_that_is_written_to_is_given_up_and_has_another_tag(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk.img", BLOCK_BYTES, (0, b"old"))
    disk, again = opened(path), opened(path)
    assert disk.tag == again.tag
    again.close()
    with path.open("r+b") as writer:
        writer.write(b"new")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # a clock may be too coarse to show it
    with pytest.raises(Transient, match="written to"):
        disk.read(0, 3)
    new = opened(path)
    assert new.tag != disk.tag
    for each in (disk, new, new):
        each.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "disk.img").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path / "disk.img")
