"""What machines and control planes reach of the platform, of each other's control planes and of the host: with real packets.

The host of these tests is the real one; it has addresses on the test's own bridge only.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api.builtin import SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import Vpc
from pilvi.controlplane import ControlPlane
from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import ensure_netns, in_netns
from pilvi.host.network import Address, Bridge, NamespaceNetwork, Route, Veth, VethEnd, delete_netns, ensure_network, ensure_veth
from pilvi.plane.down import stop_cloud
from pilvi.plane.network import EVERYWHERE, ensure_cloud_network, host_table, platform_filter
from pilvi.providers.kamaji.tenantcontrolplane.network import apply_network, plan_network
from pilvi.providers.kubeovn.vpc import controller as vpc_controller
from pilvi.providers.legs import control_plane_netns
from pilvi.providers.names import vpc_netns
from tests.fake_api import FakeApi
from tests.host.vpc_lab import Lab, Machine, ask, ask_until, command, ping, resolve, resolves, start_dns, start_lab, until, wait_for

GATEWAY = IPv4Address("10.0.1.1")


@pytest.fixture
def _forwarding() -> Iterator[None]:
    """The host routes between the namespaces here, as `pilvi up` has it do for as long as a cloud is there."""
    setting = Path("/proc/sys/net/ipv4/ip_forward")
    before = setting.read_text()
    setting.write_text("1")
    yield
    setting.write_text(before)


@pytest_asyncio.fixture
async def lab(_forwarding: None, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    async with start_lab(fake_api) as made:
        monkeypatch.setattr(vpc_controller, "read_nameservers", lambda: (host_of(made),))
        bridge = made.cloud.bridge
        addresses = (IPv4Interface((host_of(made), 24)), IPv4Interface((host_transit_of(made), 24)))
        await ensure_network(
            NamespaceNetwork(netns=None, bridges=(Bridge(bridge),), addresses=tuple(Address(bridge, address) for address in addresses))
        )
        yield made


def host_of(lab: Lab) -> IPv4Address:
    """The host's address in the range; `.1` is the lab's own namespace for what lies outside."""
    return lab.cloud.range[250]


def host_transit_of(lab: Lab) -> IPv4Address:
    return lab.cloud.transit[250]


def make_plane(netns: str, address: IPv4Address, folder: Path) -> ControlPlane:
    return ControlPlane(
        name="plane", cluster_name="x", version="v1.37.2", netns=netns, address=address, uid=1, gid=1, data_dir=folder, log_dir=folder
    )


async def machine_in(lab: Lab, vpc: str) -> Machine:
    """A machine in a new Vpc with that name."""
    await lab.vpc(vpc, "10.0.1.0/24", f"{vpc}-a")
    return await lab.machine("m1", vpc, f"{vpc}-a", vpc)


async def control_plane_of(lab: Lab, vpc: str, tmp_path: Path) -> ControlPlane:
    """A control plane's namespace as `kamaji/` makes it, with an API server, an etcd and a webhook that listen everywhere."""
    lab.put(TenantControlPlane.RESOURCE, "cluster", vpc, metadata={"annotations": {"pilvi.dev/vpc": vpc}}, spec={})
    labels = {"kamaji.clastix.io/name": "cluster"}
    lab.put(SERVICES, "cluster", vpc, metadata={"labels": labels}, spec={"type": "LoadBalancer", "ports": [{"port": 6443}]})
    netns = control_plane_netns(lab.cloud, lab.uid(TenantControlPlane.RESOURCE, "cluster", vpc))
    plane = make_plane(netns, await lab.cloud_address("cluster", vpc), tmp_path)
    lab.namespaces.append(netns)
    subnets = [IPv4Interface("10.0.1.0/24").network]
    await apply_network(plan_network(lab.cloud, plane, subnets, router_of(lab, vpc)), nft.Tables())
    for port, name in ((plane.port, "api"), (2379, "etcd"), (9443, "webhook")):
        await lab.serve(netns, port, name)
    return plane


def router_of(lab: Lab, vpc: str) -> str:
    return vpc_netns(lab.cloud, lab.uid(Vpc.RESOURCE, vpc))


async def platform_of(lab: Lab, tmp_path: Path) -> ControlPlane:
    """The platform's namespace with an API server, and the engine's numbers."""
    plane = make_plane(lab.cloud.netns("plane"), lab.cloud.platform_address.ip, tmp_path)
    await lab.namespace(plane.netns)
    await nft.apply(plane.netns, [platform_filter(lab.cloud, plane)])
    await lab.on_bridge(plane.netns, "plane", lab.cloud.platform_address)
    await ensure_network(NamespaceNetwork(netns=plane.netns, routes=(Route(prefix=EVERYWHERE, via=lab.cloud.host_address.ip, dev="eth0"),)))
    for port, name in ((plane.port, "api"), (9100, "metrics")):
        await lab.serve(plane.netns, port, name)
    return plane


def open_ports(lab: Lab, vpc: str, ports: str) -> None:
    obj = lab.get(Vpc.RESOURCE, vpc)
    assert obj is not None
    lab.put(Vpc.RESOURCE, vpc, metadata={"annotations": {**obj["metadata"]["annotations"], "pilvi.dev/host-ports": ports}})


async def closed(netns: str, address: IPv4Address, port: int) -> bool:
    return await ask(netns, address, port, 0.5) == "nothing"


async def test_of_the_platform_only_the_api_is_for_everybody(lab: Lab, tmp_path: Path) -> None:
    machine = await machine_in(lab, "one")
    control_plane = await control_plane_of(lab, "one", tmp_path)
    platform = await platform_of(lab, tmp_path)
    for netns in (machine.netns, control_plane.netns):
        assert (await ask(netns, platform.address, platform.port)).startswith("api ")
        assert await closed(netns, platform.address, 9100)
        assert await ping(netns, platform.address)
    # The host's own address, and the platform itself by its address and by loopback.
    assert await ask(lab.outside, platform.address, 9100) == f"metrics {lab.cloud.host_address.ip}"
    assert await ask(platform.netns, platform.address, 9100) == f"metrics {platform.address}"
    assert await ask(platform.netns, "127.0.0.1", 9100) == "metrics 127.0.0.1"
    # What the platform calls answers.
    port = await lab.serve(None, 0, "host")
    assert await ask(platform.netns, host_of(lab), port) == f"host {platform.address}"


async def test_of_a_control_plane_only_the_api_is_reachable(lab: Lab, tmp_path: Path) -> None:
    machine, stranger = await machine_in(lab, "one"), await machine_in(lab, "two")
    plane = await control_plane_of(lab, "one", tmp_path)
    await ask_until("api ", machine.netns, plane.address, plane.port)
    for netns in (machine.netns, stranger.netns, lab.outside):
        assert (await ask(netns, plane.address, plane.port)).startswith("api ")
        for port in (2379, 9443):
            assert await closed(netns, plane.address, port)
    assert await ask(plane.netns, "127.0.0.1", 2379) == "etcd 127.0.0.1"
    assert await ask(plane.netns, plane.address, 9443) == f"webhook {plane.address}"
    await lab.serve(machine.netns, 10250, "kubelet")
    assert await ask(plane.netns, machine.address, 10250) == f"kubelet {plane.address}"


async def test_a_filter_of_a_control_plane_comes_back_with_its_namespace(lab: Lab, tmp_path: Path) -> None:
    plane = make_plane(lab.cloud.netns("cp-1"), lab.cloud.range[9], tmp_path)
    lab.namespaces.append(plane.netns)
    tables, wanted = nft.Tables(), plan_network(lab.cloud, plane, [], None)
    for _ in range(2):
        await apply_network(wanted, tables)
        assert await nft.list_tables(plane.netns) == [("inet", lab.cloud.nft_table)]
        await delete_netns(plane.netns)


async def test_ports_of_the_host_are_closed_until_an_administrator_opens_them(lab: Lab, tmp_path: Path) -> None:
    one, two = await machine_in(lab, "one"), await machine_in(lab, "two")
    plane = await control_plane_of(lab, "one", tmp_path)
    port, other = [await lab.serve(None, 0, "host") for _ in range(2)]
    for netns in (one.netns, two.netns, plane.netns):
        assert await closed(netns, host_of(lab), port)
    assert await closed(router_of(lab, "one"), host_transit_of(lab), port)
    assert await ping(one.netns, host_of(lab))

    open_ports(lab, "one", str(port))
    transit = lab.get(Vpc.RESOURCE, "one")["metadata"]["annotations"]["pilvi.dev/transit"]  # type: ignore[index]
    await ask_until(f"host {transit}", one.netns, host_of(lab), port)
    # Its control plane has it too; no other port, no other VPC.
    assert await ask(plane.netns, host_of(lab), port) == f"host {plane.address}"
    assert await closed(one.netns, host_of(lab), other)
    assert await closed(two.netns, host_of(lab), port)

    # Another engine finds it open, and leaves it so.
    await lab.stop_engine()
    assert (await ask(one.netns, host_of(lab), port)).startswith("host ")
    before = await command(None, "nft", "list", "table", "inet", lab.cloud.nft_host_table)
    await lab.start_engine()
    lab.put(Vpc.RESOURCE, "three", spec={})
    await wait_for("third router", lambda: lab.status(Vpc.RESOURCE, "three").get("standby"))
    assert await command(None, "nft", "list", "table", "inet", lab.cloud.nft_host_table) == before

    # A list that is half right opens nothing.
    open_ports(lab, "one", f"{port}, http")
    await wait_for("condition", lambda: lab.condition(Vpc.RESOURCE, "one", "Error").get("reason") == "InvalidHostPorts")
    assert await closed(one.netns, host_of(lab), port)
    assert lab.condition(Vpc.RESOURCE, "one", "Ready")["status"] == "True"


async def test_a_port_for_udp_is_no_port_for_tcp(lab: Lab) -> None:
    machine = await machine_in(lab, "one")
    port = await lab.serve(None, 0, "host")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as server:
        server.bind((str(host_of(lab)), port))
        with in_netns(machine.netns):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

        async def arrives() -> bool:
            client.sendto(b"hello", (str(host_of(lab)), port))
            try:
                return server.recv(10) == b"hello"
            except BlockingIOError:
                return False

        with client:
            assert not any([await arrives() for _ in range(5)])
            open_ports(lab, "one", f"{port}/udp")
            await until("datagram", arrives)
    assert await closed(machine.netns, host_of(lab), port)


async def test_a_port_that_the_host_passes_on_is_a_port_of_the_host(lab: Lab) -> None:
    """As Docker publishes ports of containers: with a translation that comes before any filter of what the host takes in."""
    machine = await machine_in(lab, "one")
    port, other = await lab.serve(None, 0, "container"), 27118
    table = nft.table(
        f"{lab.cloud.id}-foreign",
        [
            nft.chain("prerouting", type="nat", hook="prerouting", priority=-100),
            nft.rule("prerouting", nft.match("ip daddr", str(host_of(lab))), nft.match("tcp dport", other), {"redirect": {"port": port}}),
        ],
        family="ip",
    )
    await nft.apply(None, [table])
    try:
        assert await closed(machine.netns, host_of(lab), other)
        open_ports(lab, "one", str(other))
        await ask_until("container", machine.netns, host_of(lab), other)
        assert await closed(machine.netns, host_of(lab), port)
    finally:
        await nft.delete(None, table["name"], family="ip")


async def test_openings_end_with_the_vpc(lab: Lab) -> None:
    lab.put(Vpc.RESOURCE, "one", metadata={"annotations": {"pilvi.dev/host-ports": "5000"}}, spec={})
    await wait_for("router", lambda: lab.status(Vpc.RESOURCE, "one").get("standby"))
    transit = lab.get(Vpc.RESOURCE, "one")["metadata"]["annotations"]["pilvi.dev/transit"]  # type: ignore[index]
    assert transit in await command(None, "nft", "list", "table", "inet", lab.cloud.nft_host_table)
    await lab.delete(Vpc.RESOURCE, "one")
    await wait_for("Vpc gone", lambda: lab.get(Vpc.RESOURCE, "one") is None)

    async def is_forgotten() -> bool:
        return transit not in await command(None, "nft", "list", "table", "inet", lab.cloud.nft_host_table)

    await until("table without the Vpc", is_forgotten)


async def test_a_nameserver_on_the_host_is_reachable_and_nothing_else_there(lab: Lab) -> None:
    port = await lab.serve(None, 0, "host")
    process = await start_dns(None, f"--listen-address={host_of(lab)},{host_transit_of(lab)}", "--bind-interfaces")
    try:
        machine = await machine_in(lab, "one")
        await resolves(machine.netns, GATEWAY, "example.test", IPv4Address("192.0.2.7"))
        assert await resolve(machine.netns, host_of(lab), "example.test") == IPv4Address("192.0.2.7")
        # The same port of another address of the host is not for them.
        assert await resolve(router_of(lab, "one"), host_transit_of(lab), "example.test", 0.5) is None
        assert await closed(machine.netns, host_of(lab), port)
    finally:
        process.terminate()
        await process.wait()


async def test_a_table_that_was_deleted_by_hand_comes_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = await machine_in(lab, "one")
    port = await lab.serve(None, 0, "host")
    await nft.delete(None, lab.cloud.nft_host_table)
    assert (await ask(machine.netns, host_of(lab), port)).startswith("host ")
    monkeypatch.setattr(nft, "HOLD_S", 0.0)
    lab.put(Vpc.RESOURCE, "one", metadata={"labels": {"touched": "yes"}})

    async def is_closed() -> bool:
        return await closed(machine.netns, host_of(lab), port)

    await until("closed port", is_closed)


async def test_routers_of_others_are_not_even_pinged(lab: Lab) -> None:
    one, two = await machine_in(lab, "one"), await machine_in(lab, "two")
    transits = [lab.get(Vpc.RESOURCE, name)["metadata"]["annotations"]["pilvi.dev/transit"] for name in ("one", "two")]  # type: ignore[index]
    assert await ping(one.netns, GATEWAY)
    assert not await ping(one.netns, transits[1])
    assert not await ping(two.netns, transits[0])
    # What is published in the other VPC is for everybody, and answers.
    await lab.serve(two.netns, 80, "web")
    lab.service("web", "two", {80: 80}, [two])
    address = await lab.cloud_address("web", "two")
    await ask_until(f"web {transits[0]}", one.netns, address, 80)


@pytest_asyncio.fixture
async def plane(cloud: Cloud, tmp_path: Path) -> ControlPlane:
    return make_plane(cloud.netns("plane"), cloud.platform_address.ip, tmp_path)


async def test_whoever_comes_through_the_host_is_not_taken_for_it(cloud: Cloud, plane: ControlPlane) -> None:
    """A namespace plays the host, whose container network gives what leaves it the host's address (as Docker does)."""
    host, guest = cloud.netns("host"), cloud.netns("guest")
    for netns in (host, guest, plane.netns):
        await ensure_netns(netns)
    link = VethEnd(netns=host, name="docker", addresses=(IPv4Interface("172.30.0.1/24"),))
    await ensure_veth(Veth(a=link, b=VethEnd(netns=guest, name="eth0", addresses=(IPv4Interface("172.30.0.2/24"),))))
    await ensure_network(
        NamespaceNetwork(
            netns=host,
            bridges=(Bridge(cloud.bridge),),
            addresses=(Address(cloud.bridge, cloud.host_address), Address("docker", link.addresses[0])),
            sysctls={"net.ipv4.ip_forward": "1"},
        )
    )
    end = VethEnd(netns=plane.netns, name="eth0", addresses=(cloud.platform_address,))
    await ensure_veth(Veth(a=VethEnd(netns=host, name="plane", master=cloud.bridge), b=end))
    await ensure_network(NamespaceNetwork(netns=guest, routes=(Route(prefix=EVERYWHERE, via=link.addresses[0].ip),)))
    masquerade = nft.table(
        "foreign",
        [
            nft.chain("out", type="nat", hook="postrouting", priority=100),
            nft.rule("out", nft.match("oifname", cloud.bridge), {"masquerade": None}),
        ],
        family="ip",
    )
    await nft.apply(host, [masquerade])
    await nft.apply(plane.netns, [platform_filter(cloud, plane)])

    with in_netns(plane.netns):
        listeners = [socket.create_server(("", port)) for port in (plane.port, 9100)]
    try:
        assert await _connects(guest, plane.address, 9100)  # the hole that the host's table closes
        await nft.apply(host, [host_table(cloud, plane)])
        assert not await _connects(guest, plane.address, 9100)
        assert await _connects(guest, plane.address, plane.port)
        assert await _connects(host, plane.address, 9100)
    finally:
        for listener in listeners:
            listener.close()


async def _connects(netns: str, address: IPv4Address, port: int) -> bool:
    # Nobody accepts, so a connection that is made says nothing; one that is not is told apart by how it ends.
    with in_netns(netns):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with client:
        client.settimeout(0.5)
        return client.connect_ex((str(address), port)) == 0


async def test_the_clouds_own_network_is_made_mended_and_taken_away(cloud: Cloud, plane: ControlPlane) -> None:
    async def rules() -> str:
        inside = await command(plane.netns, "nft", "list", "ruleset")
        return inside + await command(None, "nft", "list", "table", "ip", cloud.nft_table)

    await ensure_cloud_network(cloud, plane)
    made = await rules()
    await ensure_cloud_network(cloud, plane)
    assert await rules() == made
    await nft.delete(plane.netns, cloud.nft_table)
    await nft.delete(None, cloud.nft_table, family="ip")
    await ensure_cloud_network(cloud, plane)
    assert await rules() == made
    # As the Vpc controller would have.
    await nft.apply(None, [nft.table(cloud.nft_host_table)])
    await stop_cloud(cloud, lambda _text: None)
    assert await find_leftovers(cloud) == []
