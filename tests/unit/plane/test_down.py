"""The end of a home: its identity goes last."""

from functools import partial
from pathlib import Path

import pytest

from pilvi.errors import PilviError, UserError
from pilvi.host import settings
from pilvi.host.cloud import Cloud, find_cloud, save_cloud
from pilvi.host.leftovers import Leftover, find_records
from pilvi.plane import down
from tests.unit.providers.kamaji.objects import cloud


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = cloud(tmp_path / "home")
    save_cloud(made)
    (made.home / "plane" / "etcd").mkdir(parents=True)

    async def nothing_left(_cloud: Cloud) -> list[object]:
        return []

    def forget(gone: Cloud) -> None:
        (gone.home / "cloud.json").unlink()

    monkeypatch.setattr(down, "find_leftovers", nothing_left)
    monkeypatch.setattr(down, "release_settings", lambda _id: ["net.ipv4.ip_forward"])
    monkeypatch.setattr(down, "forget_cloud", forget)
    monkeypatch.setattr(down, "find_records", partial(find_records, host_file=tmp_path / "host.json"))
    assert settings.release_settings is not down.release_settings
    return made


async def test_nothing_of_the_home_stays(home: Cloud) -> None:
    assert await down.purge_cloud(home, lambda _text: None) == ["net.ipv4.ip_forward"]
    assert not home.home.exists()


async def test_a_purge_that_was_cut_short_can_be_repeated(home: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Path) -> None:
        raise PilviError(f"{path} is busy")

    with monkeypatch.context() as patch:
        patch.setattr(down, "remove_tree", busy)
        with pytest.raises(PilviError):
            await down.purge_cloud(home, lambda _text: None)
    assert find_cloud(home.home) == home
    await down.purge_cloud(home, lambda _text: None)
    assert not home.home.exists()


async def test_what_the_host_still_remembers_is_named(home: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is read again after the cloud was given back."""
    monkeypatch.setattr(down, "PROOF_TIMEOUT_S", 0.1)
    monkeypatch.setattr(down, "find_records", lambda _cloud: [Leftover("host setting", "net.ipv4.ip_forward")])
    with pytest.raises(UserError, match=r"left 1 things behind: host setting net\.ipv4\.ip_forward"):
        await down.purge_cloud(home, lambda _text: None)
