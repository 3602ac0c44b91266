"""Volumes and copies on real file systems: one that shares blocks between files, one that cannot, one that is full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.errors import NoSpace
from pilvi.host.disks import allocated_bytes, find_capabilities, free_bytes
from pilvi.providers.storage import files

MIB = 1 << 20


@contextlib.contextmanager
def mounted(folder: Path, kind: str, size_mib: int) -> Iterator[Path]:
    image, place = folder / f"{kind}.img", folder / kind
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.fail(f"there is no mkfs.{kind}; install xfsprogs and e2fsprogs")
    image.touch()
    os.truncate(image, size_mib * MIB)
    flags = ["-m", "reflink=1"] if kind == "xfs" else []
    subprocess.run([f"mkfs.{kind}", "-q", *flags, image], check=True, timeout=60)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True, timeout=60)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True, timeout=60)


async def make_disk(place: Path, size_mib: int, data: bytes) -> Path:
    disk = place / "volumes" / "pvc-a" / "disk.img"
    await files.create(disk, size_mib * MIB)
    with disk.open("r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return disk


@pytest.mark.parametrize(("kind", "method"), [("xfs", "reflink"), ("ext4", "copy")])
async def test_a_copy_has_the_data_and_its_own_life(tmp_path: Path, kind: str, method: str) -> None:
    with mounted(tmp_path, kind, 320) as place:
        assert (await find_capabilities(place)).reflink == (method == "reflink")
        data = os.urandom(100 * MIB)
        disk = await make_disk(place, 128, data)
        copy = place / "volumes" / "pvc-b" / "disk.img"
        before = free_bytes(place)
        assert await files.copy(disk, copy, 200 * MIB) == method
        taken = before - free_bytes(place)
        assert (taken < 4 * MIB) == (method == "reflink")
        assert allocated_bytes(copy) < 104 * MIB  # sparse either way
        with disk.open("r+b") as file:
            file.write(b"other")
        assert copy.stat().st_size == 200 * MIB
        assert copy.read_bytes()[: 100 * MIB] == data


async def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", 64) as place:
        disk = await make_disk(place, 40, os.urandom(30 * MIB))
        copy = place / "volumes" / "pvc-b" / "disk.img"
        with pytest.raises(NoSpace, match="is full"):
            await files.copy(disk, copy, 40 * MIB)
        assert [*copy.parent.iterdir()] == []
        with pytest.raises(NoSpace, match="could not be filled"):
            await files.grow(disk, 500 * MIB)
        assert disk.stat().st_size == 40 * MIB
        # What it has taken already counts for it: this fits exactly because of that.
        free = free_bytes(place)
        await files.grow(disk, (allocated_bytes(disk) + free) // MIB * MIB)
