"""Checksums and unpacking."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.errors import Unusable, UserError
from pilvi.lib.deadline import wait_for
from pilvi.transfer import Meter, find_compression, parse_checksum, unpack, verify

PACK: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstd.compress}
REUSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@given(data=st.binary(max_size=2000), algorithm=st.sampled_from(["md5", "sha1", "sha256", "sha512"]), upper=st.booleans())
@REUSE
def test_a_checksum_holds_for_its_data_and_no_other(tmp_path: Path, data: bytes, algorithm: str, upper: bool) -> None:
    digest = hashlib.new(algorithm, data).hexdigest()
    checksum = parse_checksum(f"{algorithm}:{digest.upper() if upper else digest}")
    assert str(checksum) == f"{algorithm}:{digest}"
    path = tmp_path / "data"
    path.write_bytes(data)
    asyncio.run(verify(path, checksum, Meter()))
    path.write_bytes(data + b"x")
    with pytest.raises(Unusable, match=digest):
        asyncio.run(verify(path, checksum, Meter()))


@given(st.text(max_size=80))
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(UserError, match="no checksum"):
        parse_checksum(text)


@pytest.mark.parametrize("name", [*PACK])
@given(parts=st.lists(st.one_of(st.binary(max_size=500), st.integers(0, 300_000).map(bytes)), max_size=5), streams=st.integers(1, 3))
@REUSE
def test_packed_files_come_out_as_they_were(tmp_path: Path, name: str, parts: list[bytes], streams: int) -> None:
    data = b"".join(parts)
    (tmp_path / "packed").write_bytes(PACK[name](data) * streams)
    assert find_compression(tmp_path / "packed") == name
    asyncio.run(unpack(tmp_path / "packed", tmp_path / "out", name, len(data) * streams, Meter()))
    assert (tmp_path / "out").read_bytes() == data * streams


@pytest.mark.parametrize("name", [*PACK])
async def test_zeros_take_no_room(tmp_path: Path, name: str) -> None:
    size = 64 << 20
    (tmp_path / "packed").write_bytes(PACK[name](b"boot" + bytes(size - 4)))
    meter = Meter()
    await unpack(tmp_path / "packed", tmp_path / "out", name, size, meter)
    found = (tmp_path / "out").stat()
    assert found.st_size == size
    assert found.st_blocks * 512 <= 1 << 20
    assert meter.share == 1.0


@pytest.mark.parametrize("name", [*PACK])
@pytest.mark.parametrize("harm", ["cut off", "flipped", "too large"])
async def test_harm_is_told_and_leaves_nothing(tmp_path: Path, name: str, harm: str) -> None:
    data = os.urandom(300_000)
    packed = bytearray(PACK[name](data))
    if harm == "cut off":
        del packed[len(packed) // 2 :]
    if harm == "flipped":
        packed[20:28] = bytes(8)
    (tmp_path / "packed").write_bytes(packed)
    limit = 299_999 if harm == "too large" else 300_000
    words = {"cut off": "cut off", "flipped": "damaged|larger|cut off", "too large": "larger than the 299999 bytes"}[harm]
    if harm == "flipped" and name == "zst":
        packed[4:12] = b"\xff" * 8
        (tmp_path / "packed").write_bytes(packed)
    with pytest.raises(Unusable, match=words):
        await unpack(tmp_path / "packed", tmp_path / "out", name, limit, Meter())
    assert not (tmp_path / "out").exists()


async def test_a_bomb_stops_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(bytes(200 << 20)))
    with pytest.raises(Unusable, match="larger"):
        await unpack(tmp_path / "packed", tmp_path / "out", "gz", 10 << 20, Meter())


async def test_a_cancelled_unpacking_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(bytes(400 << 20), 1))
    meter = Meter()
    task = asyncio.create_task(unpack(tmp_path / "packed", tmp_path / "out", "gz", 1 << 30, meter))
    await wait_for((tmp_path / "out").exists, 30, "the first bytes", interval_s=0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "out").exists()


@given(st.binary(max_size=200))
@REUSE
def test_any_bytes_have_a_compression_or_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data").write_bytes(data)
    name = find_compression(tmp_path / "data")
    if name is not None:
        with pytest.raises(Unusable):
            asyncio.run(unpack(tmp_path / "data", tmp_path / "out", name, 1 << 20, Meter()))
