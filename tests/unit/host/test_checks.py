from pathlib import Path

import pytest

from pilvi.host.checks import check_filesystems, check_inotify, check_kernel, check_programs, check_traversable, check_user_namespaces


@pytest.mark.parametrize(
    ("release", "is_ok"), [("6.1.0-13-amd64", True), ("5.18", True), ("5.15.0-91-generic", False), ("5.18-rc1", True), ("x", False)]
)
def test_kernel(release: str, is_ok: bool) -> None:
    finding = check_kernel(release)
    assert finding.is_ok is is_ok
    assert bool(finding.fix) is not is_ok


def test_programs(tmp_path: Path) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\n")
    (tmp_path / "nft").chmod(0o755)
    good, bad = check_programs({"nft": "nftables", "nsenter": "util-linux"}, str(tmp_path))
    assert good.is_ok
    assert not bad.is_ok
    assert bad.fix == "sudo apt-get install util-linux"


def test_filesystems() -> None:
    overlay, tmpfs = check_filesystems("nodev\ttmpfs\n\text4\n")
    assert (overlay.is_ok, overlay.fix) == (False, "sudo modprobe overlay")
    assert tmpfs.is_ok


def test_inotify() -> None:
    assert check_inotify("128\n").is_ok
    assert "pilvi up" in check_inotify("128\n").message
    assert check_inotify("8192\n").message == "8192 inotify instances"


def test_path_for_units(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        parent.stat()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    open_tree = [folder for folder in (tmp_path, *tmp_path.parents) if not folder.stat().st_mode & 0o001]
    finding = check_traversable("home", closed / "deeper")
    assert not finding.is_ok
    assert finding.fix == f"sudo chmod o+x {(open_tree or [closed])[-1]}"
    (tmp_path / "file").write_text("")
    assert check_traversable("home", Path("/etc/not-there-yet")).is_ok
    assert "is not a folder" in check_traversable("home", Path("/etc/hostname/x")).message


def test_user_namespaces(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_namespaces"
    assert "CONFIG_USER_NS" in check_user_namespaces(limit).fix
    limit.write_text("0\n")
    assert "sysctl" in check_user_namespaces(limit).fix
    limit.write_text("96365\n")
    assert check_user_namespaces(limit).is_ok
