"""The cloud's own network: what is looked at again while the engine runs. The rules themselves are tested in tests/host."""

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pilvi.controlplane import ControlPlane
from pilvi.errors import DriverError
from pilvi.host.cloud import Cloud
from pilvi.plane import network
from tests.unit.providers.kubeovn.objects import CLOUD

PLANE = ControlPlane(
    name="plane",
    cluster_name="pilvi",
    version="v1.37.2",
    netns="pv-t1234-plane",
    address=IPv4Address("10.250.0.2"),
    uid=1,
    gid=1,
    data_dir=Path("/nowhere"),
    log_dir=Path("/nowhere"),
)


async def test_it_is_mended_again_and_again_also_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[ControlPlane] = []
    enough = asyncio.Event()

    async def ensure(cloud: Cloud, plane: ControlPlane) -> None:
        tries.append(plane)
        if len(tries) == 3:
            enough.set()
        raise DriverError(("nft",), 1, "", "refused") if len(tries) == 1 else OSError("refused")

    monkeypatch.setattr(network, "ensure_cloud_network", ensure)
    monkeypatch.setattr(network, "CHECK_S", 0.0)
    task = asyncio.create_task(network.keep_cloud_network(CLOUD, PLANE))
    await asyncio.wait_for(enough.wait(), 5)
    assert not task.done()
    task.cancel()
    assert tries[:3] == [PLANE] * 3


def test_the_host_is_known_by_its_own_address_only() -> None:
    content = network.platform_filter(CLOUD, PLANE)["content"]
    sources = [
        entry["match"]["right"]
        for item in content
        for entry in item.get("rule", {}).get("expr", [])
        if entry.get("match", {}).get("left") == {"payload": {"protocol": "ip", "field": "saddr"}}
    ]
    assert sources == ["10.250.0.1"]


def test_everybody_reaches_the_api_the_proxies_and_the_registry_of_the_platform() -> None:
    for table in (network.platform_filter(CLOUD, PLANE), network.host_table(CLOUD, PLANE)):
        ports = [
            entry["match"]["right"]
            for item in table["content"]
            for entry in item.get("rule", {}).get("expr", [])
            if entry.get("match", {}).get("left") == {"payload": {"protocol": "tcp", "field": "dport"}}
        ]
        assert ports == [PLANE.port, 9447, 9448, 443]
