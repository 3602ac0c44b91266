"""Locks of root's commands: nobody else can take them, prepare them or lead them elsewhere."""

import os
from pathlib import Path

import pytest

from pilvi.errors import UserError
from pilvi.host import locks
from pilvi.host.locks import LOCKS, find_lock, hold_lock, take_lock


def test_the_folder_is_one_that_only_root_writes() -> None:
    above = LOCKS.parent.stat()
    assert above.st_uid == 0
    assert not above.st_mode & 0o022


def test_a_second_holder_learns_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with hold_lock(path) as nobody:
        assert nobody is None
        with hold_lock(path) as holder:
            assert holder == os.getpid()
        assert path.exists()  # the one who came second removes nothing
        assert (path.parent.stat().st_mode & 0o777) == 0o755
    assert not path.exists()


def test_the_folder_goes_with_the_last_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    with hold_lock(folder / "a.lock"):
        with hold_lock(folder / "b.lock"):
            pass
        assert folder.exists()
        (folder / "cloud").mkdir()
    assert folder.exists()
    (folder / "cloud").rmdir()
    with hold_lock(folder / "a.lock"):
        pass
    assert not folder.exists()


def test_a_folder_that_goes_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by another command that ends between the look at the folder and the lock in it."""
    folder = tmp_path / "locks"
    ensure = locks._ensure_private_folder
    calls: list[Path] = []

    def ensure_then_lose(path: Path) -> None:
        ensure(path)
        calls.append(path)
        if len(calls) == 1:
            path.rmdir()

    monkeypatch.setattr(locks, "_ensure_private_folder", ensure_then_lose)
    with hold_lock(folder / "a.lock") as holder:
        assert holder is None
        assert (folder / "a.lock").exists()
    assert len(calls) == 2


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_the_folder_is_open_to_read_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with hold_lock(tmp_path / "locks" / "a.lock"):
            assert ((tmp_path / "locks").stat().st_mode & 0o777) == 0o755
    finally:
        os.umask(before)


def test_a_folder_that_our_own_group_may_write_is_ours(tmp_path: Path) -> None:
    """As a umask of 002 makes it."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(0o775)
    with hold_lock(tmp_path / "locks" / "a.lock") as holder:
        assert holder is None


def test_a_holder_that_has_not_written_its_pid_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir(mode=0o755)
    path = tmp_path / "locks" / "a.lock"
    descriptor = take_lock(path)
    with hold_lock(path) as holder:
        assert holder == 0
    os.close(descriptor)


@pytest.mark.parametrize("trap", ["writable by all", "link", "file"])
def test_a_folder_prepared_by_somebody_else_is_refused(tmp_path: Path, trap: str) -> None:
    folder, elsewhere = tmp_path / "locks", tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    if trap == "link":
        folder.symlink_to(elsewhere)
    elif trap == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(UserError, match="is no folder of root's"), hold_lock(folder / "a.lock"):
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locks").mkdir(mode=0o755)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(UserError, match="is no folder of root's"), hold_lock(tmp_path / "locks" / "a.lock"):
        pass


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        find_lock(tmp_path / "a.lock")
    assert (tmp_path / "victim").read_text() == "precious"
