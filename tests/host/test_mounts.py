import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.host import mounts


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    mounts.unmount_below(tmp_path)
    assert mounts.list_mounts(tmp_path) == []


def test_tmpfs_once(place: Path) -> None:
    target = place / "with space"
    target.mkdir()
    mounts.mount_tmpfs(target, size_bytes=1 << 20, mode=0o700)
    (target / "kept").write_text("x")
    mounts.mount_tmpfs(target)
    assert (target / "kept").exists()
    assert target.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (target / "big").write_bytes(b"x" * (2 << 20))
    assert [mount.point for mount in mounts.list_mounts(place)] == [target]
    mounts.unmount(target)
    mounts.unmount(target)
    assert mounts.list_mounts(place) == []


def test_bind_read_only(place: Path) -> None:
    source, target = place / "a", place / "b"
    source.mkdir()
    target.mkdir()
    mounts.bind(source, target, read_only=True)
    (source / "f").write_text("x")
    assert (target / "f").read_text() == "x"
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (target / "g").write_text("x")
    mounts.make_shared(target)
    mounts.make_private(target)


def test_overlay(place: Path) -> None:
    for name in ("low", "top", "upper", "work", "root"):
        (place / name).mkdir()
    (place / "low/f").write_text("low")
    (place / "top/f").write_text("top")
    for _ in range(2):
        mounts.mount_overlay(place / "root", lower=[place / "top", place / "low"], upper=place / "upper", work=place / "work")
    assert (place / "root/f").read_text() == "top"
    (place / "root/g").write_text("new")
    assert (place / "upper/g").read_text() == "new"
    assert len(mounts.list_mounts(place)) == 1


def test_everything_below(place: Path) -> None:
    outer, sibling = place / "x", place / "xx"
    outer.mkdir()
    sibling.mkdir()
    mounts.mount_tmpfs(outer)
    (outer / "deep").mkdir()
    mounts.mount_tmpfs(outer / "deep")
    mounts.mount_tmpfs(sibling)
    with open(outer / "deep/held", "w"):
        assert mounts.unmount_below(outer) == [outer / "deep", outer]
    assert [mount.point for mount in mounts.list_mounts(place)] == [sibling]


def test_in_use_without_lazy(place: Path) -> None:
    target = place / "t"
    target.mkdir()
    mounts.mount_tmpfs(target)
    with open(target / "held", "w"), pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
        mounts.unmount(target, lazy=False)
