"""Copies of a containerd state: links where nothing is written, real copies of the databases."""

import os
from pathlib import Path

import pytest

from pilvi.node.containerd_state import copy_containerd_state


@pytest.fixture
def template(tmp_path: Path) -> Path:
    root = tmp_path / "template"
    (root / "content").mkdir(parents=True)
    (root / "content/blob").write_bytes(b"layer")
    (root / "content/link").symlink_to("blob")
    (root / "content").chmod(0o711)
    (root / "metadata.db").write_bytes(b"db")
    return root


def test_databases_are_copied_and_the_rest_is_linked(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "machine"
    copy_containerd_state(template, target)
    assert os.path.samefile(template / "content/blob", target / "content/blob")
    assert not os.path.samefile(template / "metadata.db", target / "metadata.db")
    assert (target / "metadata.db").read_bytes() == b"db"
    assert os.readlink(target / "content/link") == "blob"
    assert (target / "content").stat().st_mode & 0o7777 == 0o711


def test_existing_copy_is_left_alone_and_a_half_one_is_made_again(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "machine"
    half = tmp_path / ".machine.new"
    half.mkdir()
    (half / "rest").write_bytes(b"")
    copy_containerd_state(template, target)
    assert not (target / "rest").exists()
    (target / "metadata.db").write_bytes(b"written by the machine")
    copy_containerd_state(template, target)
    assert (target / "metadata.db").read_bytes() == b"written by the machine"
    assert (template / "metadata.db").read_bytes() == b"db"


def test_other_file_system_means_real_copies(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    copy_containerd_state(template, tmp_path / "machine")
    assert (tmp_path / "machine/content/blob").read_bytes() == b"layer"
    assert os.readlink(tmp_path / "machine/content/link") == "blob"


def test_databases_are_on_the_disk_before_the_copy_has_its_name(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "machine"
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        assert not target.exists()
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    copy_containerd_state(template, target)
    assert synced == ["metadata.db"]
