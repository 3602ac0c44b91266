import asyncio
import socket
import subprocess
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from pilvi.errors import DriverError, UserError
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns, in_netns
from pilvi.host.network import (
    Address,
    Bridge,
    NamespaceNetwork,
    ObservedLink,
    Route,
    Tap,
    Veth,
    VethEnd,
    apply,
    delete_link,
    ensure_network,
    ensure_tap,
    ensure_veth,
    list_links,
    observe,
    plan,
)

DEFAULT = IPv4Network("0.0.0.0/0")


def ip(netns: str, *words: str) -> str:
    return subprocess.run(["ip", "-n", netns, *words], capture_output=True, text=True, check=True).stdout


async def namespaces(cloud: Cloud, *suffixes: str) -> list[str]:
    names = [cloud.netns(suffix) for suffix in suffixes]
    for name in names:
        await ensure_netns(name)
    return names


async def assert_reaches(netns: str | None, address: str) -> None:
    """A refused connection is an answer of the other side's kernel: packets went there and back."""
    with in_netns(netns):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with client, pytest.raises(ConnectionRefusedError):
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_connect(client, (address, 9))


def router(netns: str) -> NamespaceNetwork:
    return NamespaceNetwork(
        netns=netns,
        bridges=(Bridge("br0", mtu=1450),),
        addresses=(Address("br0", IPv4Interface("10.9.0.1/24")),),
        routes=(Route(prefix=IPv4Network("10.77.0.0/16"), via=IPv4Address("10.9.0.2")),),
        sysctls={"net.ipv4.ip_forward": "1", "net.ipv4.conf.all.rp_filter": "0"},
    )


def cable(machine: str, netns: str) -> Veth:
    return Veth(
        a=VethEnd(netns=machine, name="eth0", mac="02:00:00:00:00:02", addresses=(IPv4Interface("10.9.0.2/24"),)),
        b=VethEnd(netns=netns, name="m1", master="br0"),
        mtu=1450,
    )


async def test_packets_flow_and_nothing_is_done_twice(cloud: Cloud) -> None:
    machine, vpc = await namespaces(cloud, "machine", "vpc")
    machine_network = NamespaceNetwork(
        netns=machine, routes=(Route(prefix=DEFAULT, via=IPv4Address("10.9.0.1"), src=IPv4Address("10.9.0.2")),)
    )
    states = []
    for _ in range(2):
        await ensure_network(router(vpc))
        await ensure_veth(cable(machine, vpc))
        await ensure_network(machine_network)
        states.append((await observe(machine), await observe(vpc)))
    assert states[0] == states[1]
    assert plan(router(vpc), await observe(vpc, router(vpc).sysctls)) == []
    await assert_reaches(machine, "10.9.0.1")
    eth0 = states[0][0].links["eth0"]
    assert (eth0.mac, eth0.mtu, eth0.up) == ("02:00:00:00:00:02", 1450, True)


async def test_drift_is_repaired_and_strangers_are_left_alone(cloud: Cloud) -> None:
    machine, vpc = await namespaces(cloud, "machine", "vpc")
    await ensure_network(router(vpc))
    await ensure_veth(cable(machine, vpc))
    ip(vpc, "address", "del", "10.9.0.1/24", "dev", "br0")
    ip(vpc, "link", "set", "br0", "down")
    ip(vpc, "link", "set", "m1", "nomaster")
    ip(vpc, "link", "add", "name", "cni0", "type", "bridge")
    ip(vpc, "address", "add", "10.66.0.1/24", "dev", "cni0")
    ip(vpc, "link", "set", "cni0", "up")
    ip(vpc, "route", "add", "10.88.0.0/16", "via", "10.66.0.9")
    ip(machine, "address", "flush", "dev", "eth0")
    subprocess.run(["nsenter", f"--net=/run/netns/{vpc}", "sysctl", "-qw", "net.ipv4.ip_forward=0"], check=True)

    await ensure_network(router(vpc))
    await ensure_veth(cable(machine, vpc))
    seen = await observe(vpc, ["net.ipv4.ip_forward"])
    assert seen.sysctls == {"net.ipv4.ip_forward": "1"}
    assert seen.links["m1"].master == "br0"
    assert "cni0" in seen.links
    routes = ip(vpc, "route")
    assert "10.88.0.0/16 via 10.66.0.9" in routes
    assert "10.77.0.0/16 via 10.9.0.2 dev br0 proto 117" in routes
    assert "10.9.0.2/24" in ip(machine, "-4", "address", "show", "dev", "eth0")


async def test_an_end_of_a_pair_changes_its_addresses(cloud: Cloud) -> None:
    machine, vpc = await namespaces(cloud, "machine", "vpc")

    def pair(*addresses: str) -> Veth:
        end = VethEnd(netns=machine, name="eth0", addresses=tuple(map(IPv4Interface, addresses)))
        return Veth(a=end, b=VethEnd(netns=vpc, name="m1"))

    await ensure_veth(pair("10.9.0.2/24", "10.9.1.2/24"))
    ip(machine, "address", "add", "10.9.5.2/24", "dev", "eth0")
    await ensure_veth(pair("10.9.1.2/24", "10.9.2.2/24"))
    seen = {str(one.address) for one in (await observe(machine)).addresses if one.link == "eth0"}
    assert seen == {"10.9.1.2/24", "10.9.2.2/24", "10.9.5.2/24"}


async def test_what_is_no_longer_wanted_goes(cloud: Cloud) -> None:
    machine, vpc = await namespaces(cloud, "machine", "vpc")
    await ensure_network(router(vpc))
    await ensure_veth(cable(machine, vpc))
    await ensure_network(NamespaceNetwork(netns=vpc))
    seen = await observe(vpc)
    assert sorted(seen.links) == ["lo", "m1"]
    assert seen.routes == ()
    # The leg of the machine is not the namespace's to remove.
    assert "10.9.0.2/24" in ip(machine, "-4", "address")


async def test_addresses_of_one_network_change_places(cloud: Cloud) -> None:
    """The kernel drops secondary addresses together with the primary one; the second look repairs it."""
    (vpc,) = await namespaces(cloud, "vpc")

    def network(*hosts: int) -> NamespaceNetwork:
        addresses = tuple(Address("br0", IPv4Interface(f"10.9.0.{host}/24")) for host in hosts)
        return NamespaceNetwork(netns=vpc, bridges=(Bridge("br0"),), addresses=addresses)

    await ensure_network(network(1, 2, 3))
    await ensure_network(network(2, 3, 4))
    seen = sorted(str(one.address) for one in (await observe(vpc)).addresses if one.link == "br0")
    assert seen == ["10.9.0.2/24", "10.9.0.3/24", "10.9.0.4/24"]


async def test_half_of_another_pair_is_replaced(cloud: Cloud) -> None:
    machine, vpc, old = await namespaces(cloud, "machine", "vpc", "old")
    await ensure_network(router(vpc))
    # Same names and, since each namespace counts its links alone, same indexes as the right pair would have.
    await ensure_network(NamespaceNetwork(netns=old, bridges=(Bridge("br0"),)))
    await ensure_veth(Veth(a=VethEnd(netns=machine, name="eth0"), b=VethEnd(netns=old, name="m1")))
    await ensure_veth(Veth(a=VethEnd(netns=vpc, name="m1"), b=VethEnd(netns=old, name="m2")))
    await ensure_veth(cable(machine, vpc))
    assert [link.name for link in await list_links(old)] == ["br0", "lo"]
    await assert_reaches(machine, "10.9.0.1")


async def test_bridge_keeps_its_address_when_ports_come(cloud: Cloud) -> None:
    machine, vpc = await namespaces(cloud, "machine", "vpc")
    await ensure_network(router(vpc))
    before = (await observe(vpc)).links["br0"].mac
    await ensure_veth(Veth(a=VethEnd(netns=machine, name="eth0"), b=VethEnd(netns=vpc, name="m1", mac="02:00:00:00:00:00", master="br0")))
    assert (await observe(vpc)).links["br0"].mac == before


async def test_pair_within_the_hosts_namespace_and_deletion(cloud: Cloud) -> None:
    (plane,) = await namespaces(cloud, "plane")
    await ensure_network(
        NamespaceNetwork(netns=None, bridges=(Bridge(cloud.bridge),), addresses=(Address(cloud.bridge, cloud.host_address),))
    )
    name = cloud.link_name("plane")
    veth = Veth(
        a=VethEnd(netns=None, name=name, master=cloud.bridge), b=VethEnd(netns=plane, name="eth0", addresses=(cloud.platform_address,))
    )
    await ensure_veth(veth)
    await ensure_veth(veth)
    assert [link.name for link in await list_links(None, cloud.bridge)] == [cloud.bridge, name]
    await assert_reaches(None, str(cloud.platform_address.ip))
    await delete_link(None, name)
    await delete_link(None, name)
    await delete_link(cloud.netns("none"), name)
    assert [link.name for link in await list_links(plane)] == ["lo"]


async def test_refusals_say_what_and_where(cloud: Cloud) -> None:
    (vpc,) = await namespaces(cloud, "vpc")
    with pytest.raises(DriverError, match=f"there is no link eth9 in namespace {vpc}"):
        await ensure_network(NamespaceNetwork(netns=vpc, addresses=(Address("eth9", IPv4Interface("10.0.0.1/24")),)))
    with pytest.raises(DriverError, match=r"route add 10\.5\.0\.0/16 via 10\.0\.0\.1"):
        await ensure_network(NamespaceNetwork(netns=vpc, routes=(Route(prefix=IPv4Network("10.5.0.0/16"), via=IPv4Address("10.0.0.1")),)))
    with pytest.raises(UserError, match=r"no setting net\.ipv4\.none"):
        await ensure_network(NamespaceNetwork(netns=vpc, sysctls={"net.ipv4.none": "1"}))
    with pytest.raises(FileNotFoundError):
        await ensure_network(NamespaceNetwork(netns=cloud.netns("none")))


async def test_a_pair_is_found_although_a_list_would_lack_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may leave links out of a list that changes while it is read."""
    machine, vpc = await namespaces(cloud, "machine", "vpc")
    await ensure_network(router(vpc))
    await ensure_veth(cable(machine, vpc))
    before = (await observe(machine)).links

    async def nothing(_ip: object) -> dict[str, ObservedLink]:
        return {}

    monkeypatch.setattr(apply, "observe_links", nothing)
    await ensure_veth(cable(machine, vpc))
    assert (await observe(machine)).links == before
    # And its other end is still a port of the bridge, so nothing was to be done there either.
    assert (await observe(vpc)).links["m1"].master == "br0"


async def test_a_tap_is_a_port_of_its_bridge_and_stays_one(cloud: Cloud) -> None:
    (netns,) = await namespaces(cloud, "r")
    await ensure_network(router(netns))
    for _ in range(2):
        await ensure_tap(Tap(netns=netns, name="m1", master="br0", mtu=1450))
    (link,) = await list_links(netns, "m1")
    assert (link.kind, link.master, link.mtu, link.up) == ("tun", "br0", 1450, True)
    ip(netns, "link", "set", "m1", "nomaster", "down")
    await ensure_tap(Tap(netns=netns, name="m1", master="br0", mtu=1450))
    (again,) = await list_links(netns, "m1")
    assert (again.index, again.master, again.up) == (link.index, "br0", True)
    await delete_link(netns, "m1")
    assert await list_links(netns, "m1") == []


async def test_a_tap_without_its_bridge_is_an_error_and_one_that_is_something_else_too(cloud: Cloud) -> None:
    (netns,) = await namespaces(cloud, "r")
    with pytest.raises(DriverError, match="no link br0"):
        await ensure_tap(Tap(netns=netns, name="m1", master="br0"))
    ip(netns, "link", "add", "name", "other", "type", "bridge")
    with pytest.raises(DriverError, match="no tap device"):
        await ensure_tap(Tap(netns=netns, name="other", master="br0"))
