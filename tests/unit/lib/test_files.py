from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from pathlib import Path

import pytest

from pilvi.errors import PilviError, UserError
from pilvi.lib import files


def test_write_atomic_sets_content_mode_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("old")
    files.write_atomic(path, "new", mode=0o640)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.conf"]


def test_write_atomic_replaces_a_symlink_and_keeps_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "link").is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def disk_full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_killed_writer_left_goes_and_what_others_made_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    abandoned, at_work = (tmp_path / f".a.json.{name}.pilvi-new" for name in ("abandone", "iswritte"))
    foreign = [tmp_path / ".a.json.mybackup", tmp_path / ".b.json.whatever.pilvi-new", tmp_path / ".a.json.link.pilvi-new"]
    for file in (abandoned, at_work, *foreign[:2]):
        file.write_text("x")
    foreign[2].symlink_to(foreign[0])
    with at_work.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        files.write_atomic(path, "new")
    assert {entry.name for entry in tmp_path.iterdir()} == {file.name for file in (path, at_work, *foreign)}


def test_a_file_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock
    seen: list[str] = []

    def late(fd: int, how: int) -> None:
        if not seen:  # another writer comes in between
            seen.extend(entry.name for entry in tmp_path.iterdir())
            (tmp_path / seen[0]).unlink()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write_atomic(tmp_path / "a", "new")
    assert len(seen) == 1
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a": "new"}


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [1, None, "ä"]})
    assert files.read_json(path) == {"a": [1, None, "ä"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.find_json(tmp_path / "none") is None


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(UserError, match=r"a\.json does not hold JSON"):
        files.read_json(tmp_path / "a.json")


def test_remove_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(outside)
    files.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").exists()
    files.remove_tree(tree)
    files.remove_tree(outside / "precious")
    assert not (outside / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_remove_tree_refuses_to_reach_into_a_bind_mount(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_text("x")
    point = tmp_path / "tree" / "with space" / "point"
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", source, point], check=True)
    try:
        assert files.find_mounts_below(tmp_path / "tree") == [point]
        with pytest.raises(PilviError, match="is a mount point"):
            files.remove_tree(tmp_path / "tree")
    finally:
        subprocess.run(["umount", point], check=True)
    assert (source / "precious").exists()
    files.remove_tree(tmp_path / "tree")
