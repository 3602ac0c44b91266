import os
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import msgspec
import pytest

from pilvi.errors import UserError
from pilvi.host import cloud as module
from pilvi.host.cloud import Cloud, check_range, create_cloud, find_cloud, forget_cloud, get_cloud, save_cloud
from pilvi.host.hostfile import open_host_file


@pytest.fixture(autouse=True)
def used_networks(monkeypatch: pytest.MonkeyPatch) -> dict[str, IPv4Network]:
    """What the host uses, instead of the machine that the tests run on."""
    used: dict[str, IPv4Network] = {}
    monkeypatch.setattr(module, "list_used_networks", lambda: dict(used))
    return used


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    return tmp_path / "host.json"


def sample(tmp_path: Path) -> Cloud:
    return Cloud(
        id="k3x9q",
        home=tmp_path,
        run=Path("/run/pilvi/k3x9q"),
        range=IPv4Network("10.250.3.0/24"),
        transit=IPv4Network("100.64.0.0/22"),
        uid_base=1_879_048_192,
        uid_count=4096,
    )


def test_names_carry_the_id_and_fit_the_kernel(tmp_path: Path) -> None:
    cloud = sample(tmp_path)
    assert cloud.bridge == "pvk3x9q"
    assert cloud.netns("plane") == "pv-k3x9q-plane"
    assert cloud.nft_table == "pilvi-k3x9q"
    assert cloud.nft_host_table == "pilvi-k3x9q-host"
    assert cloud.cgroup("etcd") == "pilvi-k3x9q/etcd"
    link = cloud.link_name("6a1f7a4e-6b39-4b5e-9d09-1c7c1a4c4c55")
    assert link.startswith(cloud.bridge)
    assert len(link) == 15
    assert link != cloud.link_name("another")


def test_addresses(tmp_path: Path) -> None:
    cloud = sample(tmp_path)
    assert cloud.host_address == IPv4Interface("10.250.3.1/24")
    assert cloud.platform_address == IPv4Interface("10.250.3.2/24")
    assert cloud.transit_gateway == IPv4Interface("100.64.0.1/22")
    assert cloud.owns_address(IPv4Address("100.64.3.9"))
    assert not cloud.owns_address(IPv4Address("10.250.4.1"))
    assert cloud.uids[0] == 1_879_048_192
    assert len(cloud.uids) == 4096


def test_save_and_read_again(tmp_path: Path) -> None:
    save_cloud(sample(tmp_path))
    assert find_cloud(tmp_path) == sample(tmp_path)
    assert (tmp_path / "cloud.json").stat().st_mode & 0o777 == 0o644


def test_no_cloud(tmp_path: Path) -> None:
    assert find_cloud(tmp_path / "nowhere") is None
    with pytest.raises(UserError, match="no cloud in"):
        get_cloud(tmp_path)


def test_home_of_a_newer_pilvi_is_refused(tmp_path: Path) -> None:
    newer = msgspec.json.encode({"format": 2, "fields": "that nobody here knows"})
    (tmp_path / "cloud.json").write_bytes(newer)
    with pytest.raises(UserError, match="made by a newer pilvi"):
        find_cloud(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 1}', b'{"format": "x"}'])
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cloud.json").write_bytes(content)
    with pytest.raises(UserError, match=r"cloud\.json is damaged"):
        find_cloud(tmp_path)


def test_create_twice_is_the_same_cloud(tmp_path: Path, host_file: Path) -> None:
    first = create_cloud(tmp_path / "a", host_file=host_file)
    assert first.range == IPv4Network("10.250.0.0/24")
    assert first.transit == IPv4Network("100.64.0.0/22")
    assert create_cloud(tmp_path / "a", host_file=host_file) == first
    assert create_cloud(tmp_path / "a", machines="sandbox", host_file=host_file).machines == "sandbox"
    assert create_cloud(tmp_path / "a", host_file=host_file).machines == "sandbox"


def test_two_clouds_share_nothing(tmp_path: Path, host_file: Path) -> None:
    a = create_cloud(tmp_path / "a", host_file=host_file)
    b = create_cloud(tmp_path / "b", host_file=host_file)
    assert a.id != b.id
    assert not a.range.overlaps(b.range)
    assert not a.transit.overlaps(b.transit)
    assert not set(a.uids) & set(b.uids)
    assert a.run != b.run


def test_host_networks_are_avoided(tmp_path: Path, host_file: Path, used_networks: dict[str, IPv4Network]) -> None:
    used_networks["route 10.250.0.0/23 dev eth1 of this host"] = IPv4Network("10.250.0.0/23")
    used_networks["address 100.64.1.7 of this host"] = IPv4Network("100.64.1.7")
    cloud = create_cloud(tmp_path / "a", host_file=host_file)
    assert cloud.range == IPv4Network("10.250.2.0/24")
    assert cloud.transit == IPv4Network("100.64.4.0/22")


def test_range_that_overlaps_is_refused_and_nothing_is_made(tmp_path: Path, host_file: Path, used_networks: dict[str, IPv4Network]) -> None:
    used_networks["route 192.168.0.0/16 dev eth0 of this host"] = IPv4Network("192.168.0.0/16")
    with pytest.raises(UserError, match="overlaps route 192"):
        create_cloud(tmp_path / "a", IPv4Network("192.168.7.0/24"), host_file=host_file)
    create_cloud(tmp_path / "b", IPv4Network("10.9.0.0/20"), host_file=host_file)
    with pytest.raises(UserError, match="of cloud"):
        create_cloud(tmp_path / "a", IPv4Network("10.9.8.0/24"), host_file=host_file)
    assert not (tmp_path / "a").exists()


def test_range_inside_the_transit_pool_moves_the_pool(tmp_path: Path, host_file: Path) -> None:
    cloud = create_cloud(tmp_path / "a", IPv4Network("100.64.0.0/24"), host_file=host_file)
    assert cloud.transit == IPv4Network("100.64.4.0/22")


def test_range_of_an_existing_cloud_cannot_change(tmp_path: Path, host_file: Path) -> None:
    create_cloud(tmp_path / "a", IPv4Network("10.9.0.0/24"), host_file=host_file)
    create_cloud(tmp_path / "a", IPv4Network("10.9.0.0/24"), host_file=host_file)
    with pytest.raises(UserError, match="cannot be changed"):
        create_cloud(tmp_path / "a", IPv4Network("10.9.1.0/24"), host_file=host_file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.0/17", "too large"),
        ("10.0.0.0/29", "too small"),
        ("127.0.0.0/24", "not for hosts"),
        ("169.254.3.0/24", "not for hosts"),
        ("224.0.1.0/24", "not for hosts"),
        ("250.0.1.0/24", "not for hosts"),
    ],
)
def test_impossible_ranges(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_range(IPv4Network(text))


@pytest.mark.parametrize("text", ["10.0.0.0/18", "10.0.0.0/28"])
def test_limits_of_ranges(text: str) -> None:
    check_range(IPv4Network(text))


def test_forget_gives_everything_back(tmp_path: Path, host_file: Path) -> None:
    cloud = create_cloud(tmp_path / "a", host_file=host_file)
    forget_cloud(cloud, host_file=host_file)
    forget_cloud(cloud, host_file=host_file)
    assert find_cloud(cloud.home) is None
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert create_cloud(tmp_path / "b", host_file=host_file).range == cloud.range


def test_the_last_cloud_takes_the_folder_below_run_with_it(tmp_path: Path, host_file: Path) -> None:
    root = tmp_path / "run"
    one, other = (create_cloud(tmp_path / name, host_file=host_file, run_root=root) for name in "ab")
    root.mkdir()
    forget_cloud(one, host_file=host_file)
    assert root.exists(), "the other cloud is about to make its own folder in it"
    (root / "foreign").touch()
    forget_cloud(other, host_file=host_file)
    assert root.exists(), "what somebody else has put there is not ours to remove"
    (root / "foreign").unlink()
    forget_cloud(other, host_file=host_file)
    assert not root.exists()


def test_cloud_whose_home_was_removed_by_hand_is_forgotten(tmp_path: Path, host_file: Path) -> None:
    lost = create_cloud(tmp_path / "a", host_file=host_file)
    (lost.home / "cloud.json").unlink()
    found = create_cloud(tmp_path / "b", host_file=host_file)
    assert found.range == lost.range
    with open_host_file(host_file) as host:
        assert list(host.clouds) == [found.id]


def test_whole_pool_taken(tmp_path: Path, host_file: Path, used_networks: dict[str, IPv4Network]) -> None:
    used_networks["route 10.0.0.0/8 dev vpn of this host"] = IPv4Network("10.0.0.0/8")
    with pytest.raises(UserError, match="no /24 of") as caught:
        create_cloud(tmp_path / "a", host_file=host_file)
    assert "--range" in (caught.value.hint or "")


def test_a_folder_with_anything_in_it_is_no_new_home(tmp_path: Path, host_file: Path) -> None:
    """`pilvi down --purge` removes all that is in a home."""
    for name in ("letters", "photos"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="holds letters, photos"):
        create_cloud(tmp_path / "mine", host_file=host_file)
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    assert create_cloud(tmp_path / "disk", host_file=host_file) == get_cloud(tmp_path / "disk")
