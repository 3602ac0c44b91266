"""Kinds of images, told apart and converted; those that would open a second file are refused."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.errors import NoSpace, Unusable
from pilvi.transfer import Meter
from pilvi.transfer.image import ImageInfo, convert, read_image

SIZE = 8 << 20
REUSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(100_000) + bytes(SIZE - 200_000) + os.urandom(100_000))
    return path


@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"])
async def test_each_kind_becomes_the_same_raw_disk(tmp_path: Path, disk: Path, format: str) -> None:
    image = tmp_path / "image"
    options = ["-o", "force_size=on"] if format == "vpc" else []
    qemu_img("convert", "-f", "raw", "-O", format, *options, disk, image)
    info = await read_image(image)
    assert info == ImageInfo(format, SIZE)
    target = tmp_path / "out"
    meter = Meter()
    await convert(image, info.format, target, SIZE, meter)
    assert target.read_bytes() == disk.read_bytes()
    assert target.stat().st_blocks * 512 < SIZE // 2
    assert meter.total


async def test_a_backing_file_is_never_opened(tmp_path: Path, disk: Path) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-b", disk, "-F", "raw", image)
    with pytest.raises(Unusable, match="another file"):
        await read_image(image)


async def test_an_external_data_file_is_never_opened(tmp_path: Path) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", image, str(SIZE))
    with pytest.raises(Unusable, match="another file"):
        await read_image(image)


async def test_a_vmdk_that_describes_files_of_the_host(tmp_path: Path, disk: Path) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat", disk, image)
    with pytest.raises(Unusable, match="description"):
        await read_image(image)
    hidden = b"KDMV" + struct.pack("<II", 1, 0) + bytes(8) + bytes(480)
    image.write_bytes(hidden)
    with pytest.raises(Unusable, match="description"):
        await read_image(image)


async def test_a_raw_disk_is_raw_whatever_lies_behind_its_first_bytes(tmp_path: Path, disk: Path) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "inner", "1G")
    image = tmp_path / "image"
    image.write_bytes(bytes(512) + (tmp_path / "inner").read_bytes())
    assert (await read_image(image)).format == "raw"


@pytest.mark.parametrize("cut", [50, 5000, 300_000])
async def test_a_cut_off_image_is_told(tmp_path: Path, disk: Path, cut: int) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", disk, image)
    os.truncate(image, cut)
    with pytest.raises(Unusable, match="cut off"):
        await read_image(image)


async def test_an_image_that_turns_out_damaged_leaves_nothing(tmp_path: Path, disk: Path) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", disk, image)
    with image.open("r+b") as file:
        file.seek(327_680)
        file.write(b"\xff" * 100_000)
    with pytest.raises(Unusable, match="cannot be converted"):
        await convert(image, "qcow2", tmp_path / "out", SIZE, Meter())
    assert not (tmp_path / "out").exists()


@given(st.binary(max_size=300), st.sampled_from([b"QFI\xfb\0\0\0\x03", b"QFI\xfb\0\0\0\x02", b"KDMV", b"vhdxfile", b"conectix", b""]))
@REUSE
def test_no_bytes_break_it(tmp_path: Path, tail: bytes, head: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(head + tail)
    try:
        info = asyncio.run(read_image(image))
    except Unusable:
        return
    assert info.virtual_size_bytes > 0


async def test_a_cancelled_conversion_leaves_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image"
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=full", image, "512M")
    task = asyncio.create_task(convert(image, "qcow2", tmp_path / "out", 1 << 30, Meter()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "out").exists()


async def test_a_full_disk(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """qemu-img says it in words only."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-img").write_text("#!/bin/sh\necho 'qemu-img: error while writing: No space left on device' >&2\nexit 1\n")
    (programs / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(NoSpace):
        await convert(disk, "raw", tmp_path / "out", SIZE, Meter())
