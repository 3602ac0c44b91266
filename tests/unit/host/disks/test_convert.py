"""Images made raw by the real qemu-img in its cage."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from pilvi.errors import DriverError, NoSpace, Unusable
from pilvi.host.disks import ImageInfo, SourceImage, allocated_bytes, confine, convert, convert_image, inspect_image
from pilvi.host.disks.confine import confined
from pilvi.lib.deadline import wait_for
from pilvi.lib.run import run

SIZE = 8 << 20


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(100_000) + bytes(SIZE - 200_000) + os.urandom(100_000))
    return path


@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "fixed"])
async def test_each_format_becomes_the_same_disk(tmp_path: Path, disk: Path, format: str) -> None:
    image, target, told = tmp_path / "image", tmp_path / "target", list[float]()
    format, options = ("vpc", ",subformat=fixed") if format == "fixed" else (format, "")
    qemu_img("convert", "-O", format, *(["-o", f"force_size=on{options}"] if format == "vpc" else []), disk, image)
    info = await convert_image(image, target, size_bytes=2 * SIZE, progress=told.append)
    assert info == (ImageInfo if format in ("raw", "qcow2") else SourceImage)(format=format, virtual_size_bytes=SIZE)  # type: ignore[arg-type]
    assert target.read_bytes() == disk.read_bytes() + bytes(SIZE)
    assert allocated_bytes(target) < SIZE // 2 or format == "raw"
    assert target.stat().st_mode & 0o777 == 0o600
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert sorted(os.listdir(tmp_path)) == ["disk", "image", "target"]


@pytest.mark.parametrize("format", ["raw", "qcow2", "vmdk"])
async def test_one_that_is_too_large_is_refused_before_anything_is_written(tmp_path: Path, disk: Path, format: str) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-O", format, disk, image)
    with pytest.raises(Unusable, match="the disk of it holds a disk of 8388608 bytes, and there are 8388096"):
        await convert_image(image, tmp_path / "target", size_bytes=SIZE - 512, name="the disk of it")
    assert sorted(os.listdir(tmp_path)) == ["disk", "image"]


@pytest.mark.parametrize("cut", [50, 5000, 300_000])
async def test_a_cut_off_image_is_told(tmp_path: Path, disk: Path, cut: int) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-O", "qcow2", disk, image)
    os.truncate(image, cut)
    with pytest.raises(Unusable, match="cut off"):
        await convert_image(image, tmp_path / "target", size_bytes=SIZE)
    assert sorted(os.listdir(tmp_path)) == ["disk", "image"]


async def test_an_image_that_turns_out_damaged_leaves_what_was_there(tmp_path: Path, disk: Path) -> None:
    image, target = tmp_path / "image", tmp_path / "target"
    target.write_bytes(b"before")
    qemu_img("convert", "-c", "-O", "qcow2", disk, image)
    with image.open("r+b") as file:
        file.seek(327_680)
        file.write(b"\xff" * 100_000)
    with pytest.raises(Unusable, match="cannot be converted"):
        await convert_image(image, target, size_bytes=SIZE)
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["disk", "image", "target"]


@pytest.mark.parametrize("head", [b"vhdxfile", b"conectix", b"KDMV\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"])
async def test_other_formats_in_name_only(tmp_path: Path, head: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(head + b"\xee" * 4096)
    with pytest.raises(Unusable):
        await inspect_image(image)


async def test_a_compressed_one_has_to_be_unpacked_first(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(Unusable, match="gzip"):
        await inspect_image(image)


async def test_too_little_room_is_told_with_what_is_missing(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-O", "qcow2", disk, image)
    monkeypatch.setattr("pilvi.host.disks.files.free_bytes", lambda folder: 4096)
    with pytest.raises(NoSpace, match=rf"{tmp_path} is full: \d{{6}} bytes are missing"):
        await convert_image(image, tmp_path / "target", size_bytes=SIZE)
    assert sorted(os.listdir(tmp_path)) == ["disk", "image"]


async def test_a_cancelled_conversion_leaves_neither_file_nor_process(tmp_path: Path) -> None:
    image, new = tmp_path / "image", tmp_path / ".target.new"
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=full", image, "512M")
    task = asyncio.create_task(convert_image(image, tmp_path / "target", size_bytes=1 << 30))
    await wait_for(lambda: new.exists() or task.done(), 30, "the conversion to begin", interval_s=0.002)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(tmp_path) == ["image"]
    assert not _commands_with(str(image))


async def test_the_cage_holds(tmp_path: Path) -> None:
    """Only what is named can be read and written, and only so much."""
    mine, other, out = tmp_path / "mine", tmp_path / "other", tmp_path / "out"
    for path in (mine, other, out):
        path.write_bytes(b"content")

    async def attempt(script: str) -> int:
        command = confined(["sh", "-c", script], read=[mine], write=[out], largest_bytes=1 << 20)
        return (await run(command, timeout_s=20, check=False)).code

    assert await attempt(f"cat {mine}") == 0
    assert await attempt(f"cat {other}") != 0
    assert await attempt(f"echo x > {out} && cat {out}") == 0
    assert await attempt(f"echo x >> {mine}") != 0
    assert mine.read_bytes() == other.read_bytes() == b"content"
    assert await attempt(f"echo x > {tmp_path}/new") != 0
    assert await attempt(f"rm -f {out}") != 0
    assert await attempt(f"head -c 3000000 /dev/zero > {out}") != 0
    assert out.stat().st_size <= 1 << 20
    assert await attempt("ulimit -Sv 9999999999") != 0
    assert await attempt("head -c 1 /etc/shadow") != 0


async def test_the_cage_ends_with_its_parent(tmp_path: Path) -> None:
    command = confined(["true"], read=[])
    command[command.index("--") - 2] = "1"  # somebody else was the parent
    with pytest.raises(DriverError):
        await run(command, timeout_s=20)


def test_pieces_of_progress() -> None:
    told: list[float] = []
    take = convert._teller(told.append)
    for piece in (b"    (0.00/100%)\r    (12.", b"50/100%)\r", b"   (30.00/100%)\r  (100.00/1", b"00%)\r\n"):
        take(piece)
    assert told == [0.0, 0.125, 0.3, 1.0]


def test_full_is_told_by_words() -> None:
    assert confine.is_full(DriverError(["qemu-img"], 1, "qemu-img: error while writing: No space left on device"))
    assert not confine.is_full(DriverError(["qemu-img"], 1, "Invalid argument"))


def _commands_with(text: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command:
                found.append(command)
    return found
