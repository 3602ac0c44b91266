import threading
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pilvi.errors import UserError
from pilvi.host.hostfile import CloudEntry, open_host_file
from pilvi.host.locks import find_lock, take_lock


def entry(number: int) -> CloudEntry:
    return CloudEntry(
        home=Path("/x"), range=IPv4Network((number << 8, 24)), transit=IPv4Network("100.64.0.0/22"), uid_base=number, uid_count=1
    )


def test_writers_do_not_lose_each_other(tmp_path: Path) -> None:
    path = tmp_path / "host.json"

    def add(number: int) -> None:
        with open_host_file(path) as host:
            host.clouds[f"c{number}"] = entry(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_host_file(path) as host:
        assert len(host.clouds) == 20


def test_failed_block_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    with open_host_file(path) as host:
        host.clouds["aaaaa"] = entry(1)
    before = path.read_bytes()

    def fail() -> None:
        with open_host_file(path) as host:
            host.clouds.clear()
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fail()
    assert path.read_bytes() == before


def test_empty_host_has_no_files(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    with open_host_file(path) as host:
        host.clouds["aaaaa"] = entry(1)
    with open_host_file(path) as host:
        host.clouds.clear()
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"), open_host_file(path):
        pass


def test_lock_on_a_removed_file_does_not_count(tmp_path: Path) -> None:
    import os

    path = tmp_path / "lock"
    first = take_lock(path)
    assert find_lock(path) is None
    path.unlink()
    second = find_lock(path)
    assert second is not None
    os.close(first)
    assert find_lock(path) is None
    os.close(second)
