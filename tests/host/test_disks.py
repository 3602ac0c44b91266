"""Disks on real file systems of several kinds, full ones among them, and discs as others read them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pilvi.errors import NoSpace
from pilvi.host.disks import (
    allocated_bytes,
    clone_file,
    config_drive,
    convert_image,
    create_disk,
    create_empty,
    create_overlay,
    files,
    find_capabilities,
    folder_disk,
    free_bytes,
    no_cloud,
    write_disk,
)
from pilvi.lib.deadline import wait_for

MIB = 1 << 20
MAKE = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"]}
Make = Callable[[str, int], Path]


def sh(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Make]:
    """Makes and mounts file systems of a kind and size (MiB)."""
    with ExitStack() as stack:

        def make(kind: str, size_mib: int) -> Path:
            image, point = tmp_path / f"{kind}.img", tmp_path / kind
            with image.open("wb") as file:
                file.truncate(size_mib * MIB)
            sh(*MAKE[kind], image)
            point.mkdir()
            sh("mount", "-o", "loop", image, point)
            stack.callback(sh, "umount", point)
            return point

        yield make


def fill(path: Path, size_mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    return path


@pytest.mark.parametrize(("kind", "shares"), [("ext4", False), ("xfs", True), ("btrfs", True)])
async def test_a_clone_of_200_mib(mounted: Make, kind: str, shares: bool) -> None:
    folder = mounted(kind, 700)
    found = await find_capabilities(folder)
    assert (found.reflink, found.direct_io, found.punch_hole) == (shares, True, True)
    source, target = fill(folder / "source", 200), folder / "target"
    os.sync()
    before = free_bytes(folder)
    assert await clone_file(source, target, size_bytes=300 * MIB) == ("reflink" if shares else "copy")
    os.sync()
    taken = before - free_bytes(folder)
    assert taken < 8 * MIB if shares else taken >= 200 * MIB
    assert target.stat().st_size == 300 * MIB
    sh("cmp", "-n", str(200 * MIB), source, target)
    if kind == "xfs":  # filefrag's flags do not know of all that btrfs shares
        assert "shared" in sh("filefrag", "-v", target)
    with target.open("r+b") as file:  # what is written to the one is not in the other
        file.write(b"other")
    assert subprocess.run(["cmp", "-n", "5", source, target], check=False, capture_output=True).returncode == 1


async def test_a_copy_that_fills_the_disk_leaves_nothing(mounted: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, source = mounted("ext4", 32), fill(tmp_path / "source", 64)
    os.sync()
    before = free_bytes(folder)
    missing = allocated_bytes(source) - before
    with pytest.raises(NoSpace, match=rf"{folder} is full: {missing} bytes are missing"):
        await clone_file(source, folder / "disk")
    monkeypatch.setattr(files, "need_room", lambda folder, needed: None)  # somebody else fills it meanwhile
    with pytest.raises(NoSpace, match=f"{folder} is full"):
        await clone_file(source, folder / "disk")
    with pytest.raises(NoSpace, match=f"{folder} is full"):
        await create_disk(folder / "disk", 64 * MIB, preallocate=True)
    assert os.listdir(folder) == ["lost+found"]
    os.sync()
    assert free_bytes(folder) == before


async def test_a_conversion_that_fills_the_disk_leaves_nothing(mounted: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, image = mounted("ext4", 32), tmp_path / "image"
    sh("qemu-img", "convert", "-O", "qcow2", fill(tmp_path / "raw", 64), image)
    with pytest.raises(NoSpace, match=rf"{folder} is full: \d+ bytes are missing"):
        await convert_image(image, folder / "disk", size_bytes=64 * MIB)
    monkeypatch.setattr("pilvi.host.disks.convert.need_room", lambda folder, needed: None)
    with pytest.raises(NoSpace, match=rf"{folder} is full: \d{{8}} bytes of the image image are missing"):
        await convert_image(image, folder / "disk", size_bytes=64 * MIB)
    assert os.listdir(folder) == ["lost+found"]


async def test_layers_on_a_disk_without_room(mounted: Make) -> None:
    folder = mounted("ext4", 32)
    sh("sh", "-c", f"cat /dev/zero > {folder}/zeros || true")
    with pytest.raises(NoSpace, match=f"{folder} is full"):
        await create_empty(folder / "disk", 1 << 30)
    with pytest.raises(NoSpace, match=f"{folder} is full"):
        await create_overlay(folder / "disk", folder / "zeros", "raw", 1 << 30)
    assert sorted(os.listdir(folder)) == ["lost+found", "zeros"]


async def test_a_conversion_ends_with_the_engine_that_was_killed(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "disks"
    folder.mkdir()
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=full", image, "2G")
    code = (
        "import asyncio, sys; from pathlib import Path; from pilvi.host.disks import convert_image;"
        "asyncio.run(convert_image(Path(sys.argv[1]), Path(sys.argv[2]), size_bytes=2 << 30))"
    )
    engine = subprocess.Popen([sys.executable, "-c", code, image, folder / "disk"])
    try:
        await wait_for(lambda: _converting(image) or engine.poll() is not None, 60, "the conversion", interval_s=0.005)
        assert engine.poll() is None
    finally:
        engine.send_signal(signal.SIGKILL)
        engine.wait()
    await wait_for(lambda: not _converting(image), 5, "the end of qemu-img", interval_s=0.01)
    assert os.listdir(folder) == [".disk.new"]
    small = tmp_path / "small"
    sh("qemu-img", "create", "-q", "-f", "qcow2", small, "1M")
    await convert_image(small, folder / "disk", size_bytes=MIB)
    assert os.listdir(folder) == ["disk"]


@pytest.mark.parametrize(
    ("label", "made"),
    [
        no_cloud(b"#cloud-config\n" + b"# \xff\n" * 3000, {"instance-id": "one"}, b"version: 2\n", ("key",), b"v"),
        config_drive(b"#cloud-config\n", {"instance-id": "one", "local-hostname": "vm"}, b"{}"),
        ("cfgdata", {"n" * 255: b"long", "empty": b"", "..data": b"d", "Unattend.xml": b"<x/>", "zwölf": b"12"}),
        ("serviceaccount", {f"folder/{number}": b"x" * number * 10 for number in range(300)}),
    ],
    ids=["cidata", "config-2", "names", "many"],
)
async def test_discs_as_other_programs_read_them(tmp_path: Path, label: str, made: dict[str, bytes]) -> None:
    """The label by blkid, as cloud-init looks for it; the files by libarchive, and by the kernel where it knows ISO 9660."""
    disc = tmp_path / "disc.iso"
    await asyncio.to_thread(write_disk, disc, label, made)
    assert disc.read_bytes() == folder_disk(label, made)
    assert sh("blkid", "-o", "value", "-s", "LABEL", "-s", "TYPE", disc).split() == [label, "iso9660"]
    seen_by_windows = {name: content for name, content in made.items() if len(name) <= 64}
    readers = [(_unpack, "!joliet", made), (_unpack, "!rockridge", seen_by_windows)]
    if "iso9660" in Path("/proc/filesystems").read_text().split():
        readers += [(_mount, "rock", made), (_mount, "norock", seen_by_windows)]
    for reader, option, expected in readers:
        found, times = reader(disc, option, tmp_path / f"{reader.__name__}-{option}")
        assert found == expected
        assert times == {315532800.0}


def _unpack(disc: Path, option: str, folder: Path) -> tuple[dict[str, bytes], set[float]]:
    folder.mkdir()
    sh("bsdtar", "--options", f"iso9660:{option}", "-xpf", disc, "-C", folder)
    return _look(folder)


def _mount(disc: Path, option: str, folder: Path) -> tuple[dict[str, bytes], set[float]]:
    folder.mkdir()
    sh("mount", "-t", "iso9660", "-o", f"loop,ro,{option}".removesuffix(",rock"), disc, folder)
    try:
        return _look(folder)
    finally:
        sh("umount", folder)


def _look(folder: Path) -> tuple[dict[str, bytes], set[float]]:
    paths = list(folder.rglob("*"))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}
    return files, {path.stat().st_mtime for path in paths}


def _converting(image: Path) -> bool:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"qemu-img") and words[1] == b"convert" and os.fsencode(image) in words:
                return True
    return False
