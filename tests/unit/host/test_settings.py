from pathlib import Path

import pytest

from pilvi.errors import UserError
from pilvi.host import settings
from pilvi.host.settings import ensure_setting, read_setting, release_settings


class Host:
    """A host with two settings."""

    def __init__(self, tmp_path: Path) -> None:
        self.proc_sys = tmp_path / "sys"
        (self.proc_sys / "net/ipv4").mkdir(parents=True)
        (self.proc_sys / "net/ipv4/ip_forward").write_text("0\n")
        (self.proc_sys / "net/limit").write_text("128\n")
        self.file = tmp_path / "host.json"

    def ensure(self, cloud: str, name: str, value: str, *, at_least: bool = False) -> None:
        ensure_setting(cloud, name, value, at_least=at_least, host_file=self.file, proc_sys=self.proc_sys)

    def release(self, cloud: str) -> list[str]:
        return release_settings(cloud, host_file=self.file, proc_sys=self.proc_sys)

    def read(self, name: str) -> str | None:
        return read_setting(name, proc_sys=self.proc_sys)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_last_user_restores(host: Host) -> None:
    host.ensure("aaaaa", "net.ipv4.ip_forward", "1")
    host.ensure("aaaaa", "net.ipv4.ip_forward", "1")
    host.ensure("bbbbb", "net.ipv4.ip_forward", "1")
    assert host.release("aaaaa") == []
    assert host.read("net.ipv4.ip_forward") == "1"
    assert host.release("bbbbb") == ["net.ipv4.ip_forward"]
    assert host.read("net.ipv4.ip_forward") == "0"
    assert host.release("bbbbb") == []
    assert not host.file.exists()


def test_what_was_so_before_is_not_ours(host: Host) -> None:
    (host.proc_sys / "net/ipv4/ip_forward").write_text("1\n")
    host.ensure("aaaaa", "net.ipv4.ip_forward", "1")
    assert host.release("aaaaa") == []
    assert host.read("net.ipv4.ip_forward") == "1"


def test_at_least(host: Host) -> None:
    host.ensure("aaaaa", "net.limit", "64", at_least=True)
    assert host.read("net.limit") == "128"
    host.ensure("aaaaa", "net.limit", "256", at_least=True)
    host.ensure("bbbbb", "net.limit", "512", at_least=True)
    assert host.read("net.limit") == "512"
    assert host.release("bbbbb") == []
    assert host.release("aaaaa") == ["net.limit"]
    assert host.read("net.limit") == "128"


def test_change_by_somebody_else_is_respected(host: Host) -> None:
    host.ensure("aaaaa", "net.limit", "256")
    (host.proc_sys / "net/limit").write_text("9999")
    assert host.release("aaaaa") == []
    assert host.read("net.limit") == "9999"


def test_somebody_reset_it_while_we_need_it(host: Host) -> None:
    host.ensure("aaaaa", "net.ipv4.ip_forward", "1")
    (host.proc_sys / "net/ipv4/ip_forward").write_text("0")
    host.ensure("aaaaa", "net.ipv4.ip_forward", "1")
    assert host.read("net.ipv4.ip_forward") == "1"


def test_a_value_that_does_not_come_back_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes the write and keeps its value; the purge can be repeated."""
    host.ensure("aaaaa", "net.limit", "256")
    with monkeypatch.context() as patch:
        patch.setattr(settings, "_write", lambda *_arguments: None)
        with pytest.raises(UserError, match=r"net\.limit was set back to 128, but is 256"):
            host.release("aaaaa")
    assert host.release("aaaaa") == ["net.limit"]
    assert host.read("net.limit") == "128"


def test_unknown_setting(host: Host) -> None:
    with pytest.raises(UserError, match=r"no setting net\.none"):
        host.ensure("aaaaa", "net.none", "1")
    assert not host.file.exists()
