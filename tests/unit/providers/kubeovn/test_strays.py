"""Routers without a Vpc: found by their namespace or by the files of their resolver, and taken away with both."""

from pathlib import Path

import pytest

from pilvi.host.cloud import Cloud
from pilvi.host.units import Units
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubeovn.vpc import strays
from pilvi.providers.kubeovn.vpc.folder import find_folders
from pilvi.providers.kubeovn.vpc.resolver import Resolver
from pilvi.providers.kubeovn.vpc.services import Services
from pilvi.providers.kubeovn.vpc.strays import remove_strays
from tests.unit.providers.stage import make_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    made = make_cloud(tmp_path)
    (made.home / "logs").mkdir()
    return made


@pytest.fixture
def namespaces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The network namespaces of the host."""
    present: list[str] = []

    async def delete(name: str) -> None:
        present.remove(name)

    monkeypatch.setattr(strays, "list_netns", lambda prefix: [name for name in present if name.startswith(prefix)])
    monkeypatch.setattr(strays, "delete_netns", delete)
    return present


def make_files(cloud: Cloud, uid: str) -> list[Path]:
    """What a resolver leaves in the home: its folder, its log, and the log before that."""
    spec = Resolver(cloud, Units(cloud), uid).spec
    folder = next(Path(word.partition("=")[2]).parent for word in spec.argv if word.startswith("--addn-hosts="))
    folder.mkdir(parents=True)
    (folder / "hosts").write_text("10.0.0.1 a.b\n")
    logs = [spec.log_path, spec.log_path.with_name(f"{spec.log_path.name}.1")]
    for log in logs:
        log.touch()
    return [folder, *logs]


async def test_files_without_a_vpc_go_also_when_the_namespace_is_gone(cloud: Cloud, namespaces: list[str]) -> None:
    """A power cut takes namespace and process, and leaves the files."""
    lost, kept = make_files(cloud, "lost"), make_files(cloud, "kept")
    namespaces.append(cloud.netns(f"vpc-{short_hash('kept')}"))
    await remove_strays(cloud, Units(cloud), ["kept"])
    assert [path for path in lost if path.exists()] == []
    assert all(path.exists() for path in kept)
    assert len(namespaces) == 1


async def test_a_namespace_without_a_vpc_goes_with_its_files(cloud: Cloud, namespaces: list[str]) -> None:
    lost = make_files(cloud, "lost")
    namespaces += [cloud.netns(f"vpc-{short_hash('lost')}"), cloud.netns(f"vpc-{short_hash('bare')}"), "pv-other-vpc-1"]
    await remove_strays(cloud, Units(cloud), [])
    assert namespaces == ["pv-other-vpc-1"]
    assert [path for path in lost if path.exists()] == []


async def test_a_removal_that_is_cut_short_is_found_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(cloud, "lost")

    async def fail(_self: Units, _name: str) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(Units, "stop", fail)
    with pytest.raises(OSError, match="killed"):
        await Services(cloud, Units(cloud), "lost").remove()
    assert find_folders(cloud) == {short_hash("lost")}
