"""What a cloud leaves outside the kernel: the host's shared records, its service, the processes that are nobody's unit."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pilvi.host import cloud as cloud_module
from pilvi.host import leftovers
from pilvi.host.cloud import Cloud, create_cloud, forget_cloud
from pilvi.host.leftovers import Leftover, find_records
from pilvi.host.settings import ensure_setting, release_settings


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    return tmp_path / "host.json"


@pytest.fixture
def cloud(tmp_path: Path, host_file: Path) -> Cloud:
    return create_cloud(tmp_path / "home", host_file=host_file, run_root=tmp_path / "run")


def test_a_cloud_is_remembered_until_all_is_given_back(cloud: Cloud, tmp_path: Path, host_file: Path) -> None:
    (tmp_path / "limit").write_text("1\n")
    ensure_setting(cloud.id, "limit", "2", host_file=host_file, proc_sys=tmp_path)
    other = msgspec.structs.replace(cloud, id="other", home=tmp_path / "elsewhere")
    assert find_records(other, host_file=host_file) == []
    found = {leftover.kind: leftover.name for leftover in find_records(cloud, host_file=host_file)}
    assert found == {
        "registry entry": f"{cloud.id} in {host_file}",
        "host setting": "limit",
        "file": str(cloud.home / "cloud.json"),
    }
    release_settings(cloud.id, host_file=host_file, proc_sys=tmp_path)
    forget_cloud(cloud, host_file=host_file)
    assert find_records(cloud, host_file=host_file) == []


def test_a_lock_that_stayed_is_found(cloud: Cloud, host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_cloud(cloud, host_file=host_file)
    lock = host_file.with_suffix(".lock")
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_arguments, **_options: None)
    assert find_records(cloud, host_file=host_file) == [Leftover("file", str(lock))]


def test_the_engine_and_its_parent_are_found_by_their_command_line(cloud: Cloud) -> None:
    """Root's, in the host's namespaces and in no group of the cloud: nothing else tells whose they are."""
    cloud = msgspec.structs.replace(cloud, uid_count=0)  # chosen by another registry than the real clouds' of this host
    sleep = [sys.executable, "-c", "import time; time.sleep(1000)"]
    words = {
        "engine": ["-m", "pilvi.engine", "--home", str(cloud.home)],
        "another cloud's": ["-m", "pilvi.engine", "--home", f"{cloud.home}-2"],
        "somebody's editor": [str(cloud.home)],
    }
    processes = {name: subprocess.Popen([*sleep, *argv]) for name, argv in words.items()}
    try:
        found = [leftover.name.split()[0] for leftover in leftovers._processes(cloud)]
        assert found == [str(processes["engine"].pid)]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_the_service_and_its_dead_link_are_found(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "system"
    (folder / "multi-user.target.wants").mkdir(parents=True)
    monkeypatch.setattr(cloud_module, "SERVICES", folder)
    name = f"pilvi-{cloud.id}.service"
    (folder / "pilvi-other.service").touch()
    (folder / name).touch()
    (folder / "multi-user.target.wants" / name).symlink_to(folder / name)
    both = [Leftover("file", str(folder / name)), Leftover("file", str(folder / "multi-user.target.wants" / name))]
    assert leftovers._service_files(cloud) == both
    (folder / name).unlink()
    assert leftovers._service_files(cloud) == both[1:]
