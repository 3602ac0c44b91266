"""Raw disks: whole or not there, whatever happens."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilvi.errors import NoSpace, UserError
from pilvi.host.disks import allocated_bytes, clone_file, create_disk, files, find_capabilities, free_bytes, grow_disk, preallocate_disk

BLOCK = 64 << 10


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    with path.open("wb") as file:
        file.write(os.urandom(3 * BLOCK))
        file.seek(100 * BLOCK)
        file.write(os.urandom(BLOCK + 77))
        file.truncate(200 * BLOCK + 5)
    return path


@pytest.fixture
def no_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "reflink", lambda source, target: False)


@pytest.mark.usefixtures("no_sharing")
async def test_a_copy_has_the_data_and_the_holes(tmp_path: Path, source: Path) -> None:
    target, told = tmp_path / "target", list[float]()
    assert await clone_file(source, target, progress=told.append) == "copy"
    assert target.read_bytes() == source.read_bytes()
    assert allocated_bytes(target) < 20 * BLOCK
    assert target.stat().st_mode & 0o777 == 0o600
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


@pytest.mark.usefixtures("no_sharing")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 3 * 4096)), max_size=8), step=st.sampled_from([4096, 5000, 1 << 20]))
async def test_any_layout_in_steps_of_any_size(tmp_path: Path, pieces: list[tuple[bool, int]], step: int) -> None:
    source, target = tmp_path / "any", tmp_path / "copy"
    with source.open("wb") as file:
        for is_data, length in pieces:
            if is_data:
                file.write(b"\xab" * length)
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_STEP_BYTES", step)
        await clone_file(source, target)
    assert target.read_bytes() == source.read_bytes()


async def test_where_the_kernel_does_not_copy_between_files(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EXDEV, "no")

    monkeypatch.setattr(files, "reflink", lambda source, target: False)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    await clone_file(source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


async def test_a_clone_may_be_larger_and_not_smaller(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "target"
    await clone_file(source, target, size_bytes=400 * BLOCK)
    assert target.read_bytes() == source.read_bytes() + bytes(400 * BLOCK - source.stat().st_size)
    with pytest.raises(UserError, match="cannot hold"):
        await clone_file(source, tmp_path / "small", size_bytes=BLOCK)
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


async def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await clone_file(tmp_path / "none", tmp_path / "target")
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("no_sharing")
async def test_a_cancelled_copy_ends_and_leaves_what_was_there(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    begun = asyncio.Event()
    monkeypatch.setattr(files, "_STEP_BYTES", 4096)
    task = asyncio.create_task(clone_file(source, target, progress=lambda _: begun.set()))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert target.read_bytes() == b"before"
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


@pytest.mark.usefixtures("no_sharing")
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_becomes_full(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with pytest.raises(NoSpace, match=str(tmp_path)):
        await clone_file(source, tmp_path / "target")
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.usefixtures("no_sharing")
async def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: pytest.fail("it was written"))
    with pytest.raises(NoSpace, match=f"{allocated_bytes(source) - 1000} bytes are missing"):
        await clone_file(source, tmp_path / "target")
    assert os.listdir(tmp_path) == ["source"]


async def test_what_a_killed_engine_left_goes(tmp_path: Path, source: Path) -> None:
    (tmp_path / ".target.new").write_bytes(b"x" * 1000)
    await clone_file(source, tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


async def test_disks_are_made_and_grow(tmp_path: Path) -> None:
    thin, thick = tmp_path / "thin", tmp_path / "thick"
    await create_disk(thin, 1 << 40)
    assert thin.stat().st_size == 1 << 40
    assert allocated_bytes(thin) < 1 << 20
    await create_disk(thick, 1 << 20, preallocate=True)
    assert allocated_bytes(thick) >= 1 << 20
    await grow_disk(thick, 3 << 20, preallocate=True)
    assert allocated_bytes(thick) >= 3 << 20
    await grow_disk(thin, 1 << 41)
    assert thin.stat().st_size == 1 << 41
    with pytest.raises(UserError, match="cannot become smaller"):
        await grow_disk(thin, 1 << 40)
    assert thin.stat().st_size == 1 << 41


async def test_more_than_there_is(tmp_path: Path) -> None:
    huge = (free_bytes(tmp_path) + (1 << 40)) // 512 * 512
    with pytest.raises(NoSpace, match="bytes are missing"):
        await create_disk(tmp_path / "disk", huge, preallocate=True)
    assert os.listdir(tmp_path) == []
    await create_disk(tmp_path / "disk", 1 << 20)
    with pytest.raises(NoSpace, match="bytes are missing"):
        await grow_disk(tmp_path / "disk", huge, preallocate=True)
    assert (tmp_path / "disk").stat().st_size == 1 << 20


@pytest.mark.parametrize("size", [0, -512, 100, 513, 1 << 60])
async def test_sizes_that_are_none(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match="is none"):
        await create_disk(tmp_path / "disk", size)
    assert os.listdir(tmp_path) == []


async def test_capabilities_leave_nothing(tmp_path: Path) -> None:
    found = await find_capabilities(tmp_path)
    assert os.listdir(tmp_path) == []
    source = tmp_path / "source"
    source.write_bytes(bytes(BLOCK))
    assert await clone_file(source, tmp_path / "target") == ("reflink" if found.reflink else "copy")


async def test_the_holes_of_a_disk_can_be_filled(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"data" + bytes((4 << 20) - 4))
    os.truncate(disk, 8 << 20)
    await preallocate_disk(disk)
    assert allocated_bytes(disk) >= 8 << 20
    assert disk.read_bytes() == b"data" + bytes((8 << 20) - 4)
