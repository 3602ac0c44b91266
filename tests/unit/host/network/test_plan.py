"""The plan, against hand-made states and against a model of the kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import Bug
from pilvi.host.network import Address, Bridge, NamespaceNetwork, Observed, ObservedAddress, ObservedLink, Route, VethEnd
from pilvi.host.network.plan import (
    BRIDGE_ALIAS,
    Action,
    AddAddress,
    AddBridge,
    AddRoute,
    DeleteLink,
    RemoveAddress,
    RemoveRoute,
    SetLink,
    SetSysctl,
    plan,
    plan_link,
)

OURS, BY_HAND, OF_LINK = 117, 0, 118
DEFAULT = IPv4Network("0.0.0.0/0")
NEXT_HOP = IPv4Address("10.0.0.1")


def link(name: str, **fields: object) -> ObservedLink:
    return msgspec.structs.replace(ObservedLink(name=name, index=7), **fields)


def bridge(name: str, **fields: object) -> ObservedLink:
    return link(name, kind="bridge", alias=BRIDGE_ALIAS, **fields)


def observed(*links: ObservedLink, addresses: tuple[ObservedAddress, ...] = (), routes: tuple[Route, ...] = ()) -> Observed:
    return Observed(links={one.name: one for one in links}, addresses=addresses, routes=routes)


def test_from_empty_in_an_order_that_works() -> None:
    address = IPv4Interface("10.0.0.2/24")
    route = Route(prefix=DEFAULT, via=NEXT_HOP)
    desired = NamespaceNetwork(
        netns="n", bridges=(Bridge("br0"),), addresses=(Address("br0", address),), routes=(route,), sysctls={"net.ipv4.ip_forward": "1"}
    )
    assert plan(desired, Observed()) == [
        AddBridge(Bridge("br0")),
        AddAddress("br0", address),
        AddRoute(route),
        SetSysctl("net.ipv4.ip_forward", "1"),
    ]


def test_nothing_to_do() -> None:
    address = IPv4Interface("10.0.0.2/24")
    desired = NamespaceNetwork(
        netns="n",
        bridges=(Bridge("br0"),),
        addresses=(Address("br0", address),),
        routes=(Route(prefix=DEFAULT, via=NEXT_HOP), Route(prefix=IPv4Network("10.7.0.0/16"), dev="br0")),
        sysctls={"net.ipv4.ip_forward": "1"},
    )
    present = Observed(
        links={"br0": bridge("br0")},
        addresses=(ObservedAddress("br0", address, OURS),),
        routes=(
            Route(prefix=DEFAULT, via=NEXT_HOP, dev="br0", scope="global"),
            Route(prefix=IPv4Network("10.7.0.0/16"), dev="br0", scope="link"),
        ),
        sysctls={"net.ipv4.ip_forward": "1"},
    )
    assert plan(desired, present) == []


def test_only_what_is_marked_as_ours_is_removed() -> None:
    present = observed(
        bridge("stale"),
        link("cni0", kind="bridge"),
        link("eth0"),
        addresses=(
            ObservedAddress("eth0", IPv4Interface("10.0.0.5/24"), OURS),
            ObservedAddress("eth0", IPv4Interface("10.0.0.6/24"), BY_HAND),
            ObservedAddress("eth0", IPv4Interface("10.0.0.7/24"), OF_LINK),
        ),
        routes=(Route(prefix=DEFAULT, via=NEXT_HOP, dev="eth0", scope="global"),),
    )
    assert plan(NamespaceNetwork(netns="n"), present) == [
        RemoveRoute(present.routes[0]),
        RemoveAddress("eth0", IPv4Interface("10.0.0.5/24")),
        DeleteLink("stale"),
    ]


def test_in_the_hosts_namespace_other_clouds_are_left_alone() -> None:
    other = ObservedAddress("pvother", IPv4Interface("10.250.1.1/24"), OURS)
    stale = ObservedAddress("pvmine", IPv4Interface("10.250.9.1/24"), OURS)
    foreign_route = Route(prefix=IPv4Network("10.8.0.0/16"), via=NEXT_HOP, dev="pvother", scope="global")
    present = observed(bridge("pvother"), bridge("pvmine"), addresses=(other, stale), routes=(foreign_route,))
    assert plan(NamespaceNetwork(netns=None, bridges=(Bridge("pvmine"),)), present) == [RemoveAddress("pvmine", stale.address)]
    assert plan(NamespaceNetwork(netns=None), present) == []


def test_address_made_by_hand_is_good_enough() -> None:
    address = IPv4Interface("10.0.0.5/24")
    desired = NamespaceNetwork(netns="n", addresses=(Address("eth0", address),))
    assert plan(desired, observed(link("eth0"), addresses=(ObservedAddress("eth0", address, BY_HAND),))) == []


def test_other_length_is_another_address() -> None:
    desired = NamespaceNetwork(netns="n", addresses=(Address("eth0", IPv4Interface("10.0.0.5/32")),))
    present = observed(link("eth0"), addresses=(ObservedAddress("eth0", IPv4Interface("10.0.0.5/24"), OURS),))
    assert plan(desired, present) == [
        RemoveAddress("eth0", IPv4Interface("10.0.0.5/24")),
        AddAddress("eth0", IPv4Interface("10.0.0.5/32")),
    ]


@pytest.mark.parametrize(
    "present",
    [
        Route(prefix=DEFAULT, via=IPv4Address("10.0.0.9"), dev="eth0", scope="global"),
        Route(prefix=DEFAULT, via=NEXT_HOP, dev="eth0", src=IPv4Address("10.0.0.2"), scope="global"),
        Route(prefix=DEFAULT, dev="eth0", scope="link"),
        Route(prefix=DEFAULT, via=NEXT_HOP, dev="eth1", scope="global"),
    ],
)
def test_route_with_other_attributes_is_replaced(present: Route) -> None:
    wanted = Route(prefix=DEFAULT, via=NEXT_HOP, dev="eth0")
    assert plan(NamespaceNetwork(netns="n", routes=(wanted,)), observed(link("eth0"), routes=(present,))) == [
        AddRoute(wanted, replace=True)
    ]


def test_a_link_that_has_the_name_of_a_bridge_makes_room() -> None:
    desired = NamespaceNetwork(netns="n", bridges=(Bridge("br0"),))
    assert plan(desired, observed(link("br0", kind="veth"))) == [DeleteLink("br0"), AddBridge(Bridge("br0"))]


def test_bridge_is_put_right() -> None:
    desired = NamespaceNetwork(netns="n", bridges=(Bridge("br0", mac="02:00:00:00:00:01", mtu=1400),))
    present = observed(bridge("br0", up=False, mac="02:00:00:00:00:09"))
    assert plan(desired, present) == [SetLink(name="br0", up=True, mac="02:00:00:00:00:01", mtu=1400)]


@pytest.mark.parametrize(
    ("now", "wanted", "change"),
    [(None, None, None), (None, "br0", "br0"), ("br0", "br0", None), ("br0", None, ""), ("br1", "br0", "br0")],
)
def test_master(now: str | None, wanted: str | None, change: str | None) -> None:
    actions = plan_link(link("x", master=now), mac=None, mtu=1500, master=wanted)
    assert actions == ([] if change is None else [SetLink(name="x", master=change)])


def test_mac_is_compared_without_case() -> None:
    assert plan_link(link("x", mac="02:ab:00:00:00:01"), mac="02:AB:00:00:00:01", mtu=1500, master=None) == []


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "a/b", "a b"])
def test_impossible_names_are_bugs(name: str) -> None:
    with pytest.raises(Bug, match="name of a link"):
        Bridge(name)
    with pytest.raises(Bug, match="name of a link"):
        VethEnd(netns=None, name=name)


def test_ambiguous_networks_are_bugs() -> None:
    with pytest.raises(Bug, match="same prefix"):
        NamespaceNetwork(netns="n", routes=(Route(prefix=DEFAULT, via=NEXT_HOP), Route(prefix=DEFAULT, dev="x")))
    with pytest.raises(Bug, match="neither via nor dev"):
        Route(prefix=DEFAULT)


class Kernel:
    """A model: links, addresses, routes, and the kernel's habit of taking routes along with an address or link."""

    def __init__(self, state: Observed) -> None:
        self.links = dict(state.links)
        self.addresses = list(state.addresses)
        self.routes = list(state.routes)
        self.sysctls = dict(state.sysctls)

    def observe(self) -> Observed:
        return Observed(links=self.links, addresses=tuple(self.addresses), routes=tuple(self.routes), sysctls=self.sysctls)

    def apply(self, action: Action) -> None:
        match action:
            case AddBridge(bridge=wanted):
                assert wanted.name not in self.links
                self.links[wanted.name] = bridge(wanted.name, mtu=wanted.mtu, mac=wanted.mac or "02:70:00:00:00:00")
            case SetLink(name=name, up=up, mac=mac, mtu=mtu):
                now = self.links[name]
                self.links[name] = msgspec.structs.replace(now, up=now.up if up is None else up, mac=mac or now.mac, mtu=mtu or now.mtu)
            case DeleteLink(name=name):
                del self.links[name]
                self.addresses = [one for one in self.addresses if one.link != name]
                self.routes = [one for one in self.routes if one.dev != name]
            case AddAddress(link=name, address=address, protocol=protocol):
                assert name in self.links
                assert all((one.link, one.address) != (name, address) for one in self.addresses)
                self.addresses.append(ObservedAddress(name, address, protocol))
            case RemoveAddress(link=name, address=address):
                self.addresses = [one for one in self.addresses if (one.link, one.address) != (name, address)]
                self.routes = [one for one in self.routes if one.src != address.ip]
            case AddRoute(route=route, replace=replace):
                same = [one for one in self.routes if one.prefix == route.prefix]
                assert replace or not same  # replacing nothing is adding
                scope = route.scope or ("link" if route.via is None else "global")
                self.routes = [one for one in self.routes if one.prefix != route.prefix]
                self.routes.append(msgspec.structs.replace(route, dev=route.dev or "eth0", scope=scope))
            case RemoveRoute(route=route):
                self.routes.remove(route)
            case SetSysctl(name=name, value=value):
                self.sysctls[name] = value


LINKS = ("eth0", "br0", "br1")
names = st.sampled_from(LINKS)
interfaces = st.builds(lambda host, length: IPv4Interface(((10 << 24) + host, length)), st.integers(1, 6), st.sampled_from([24, 32]))
hops = st.builds(lambda host: IPv4Address((10 << 24) + host), st.integers(1, 6))
prefixes = st.sampled_from([DEFAULT, IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/16")])
observed_routes = st.one_of(
    st.builds(Route, prefix=prefixes, via=hops, dev=names, src=st.none() | hops, scope=st.just("global")),
    st.builds(Route, prefix=prefixes, dev=names, scope=st.just("link")),
)
desired_routes = st.one_of(
    st.builds(Route, prefix=prefixes, via=hops, dev=st.none() | st.just("eth0"), src=st.none() | hops),
    st.builds(Route, prefix=prefixes, dev=st.just("eth0")),
)
states = st.builds(
    lambda bridges, foreign, addresses, routes: Observed(
        links={"eth0": link("eth0"), **{name: foreign if name == "br1" else bridge(name, up=False, mtu=1400) for name in bridges}},
        addresses=tuple({(one.link, one.address): one for one in addresses if one.link in (*bridges, "eth0")}.values()),
        routes=tuple({one.prefix: one for one in routes if one.dev in (*bridges, "eth0")}.values()),
    ),
    st.sets(st.sampled_from(["br0", "br1"])),
    st.sampled_from([bridge("br1"), link("br1", kind="bridge"), link("br1", kind="veth")]),
    st.lists(st.builds(ObservedAddress, names, interfaces, st.sampled_from([OURS, BY_HAND, OF_LINK])), max_size=5),
    st.lists(observed_routes, max_size=4),
)
networks = st.builds(
    lambda netns, bridges, addresses, routes, forward: NamespaceNetwork(
        netns=netns,
        bridges=tuple(Bridge(name) for name in sorted(bridges)),
        addresses=tuple({(one.link, one.address): one for one in addresses if one.link in (*bridges, "eth0")}.values()),
        routes=tuple({one.prefix: one for one in routes}.values()),
        sysctls={"net.ipv4.ip_forward": forward},
    ),
    st.sampled_from(["n", None]),
    st.sets(st.sampled_from(["br0", "br1"])),
    st.lists(st.builds(Address, names, interfaces), max_size=5),
    st.lists(desired_routes, max_size=3),
    st.sampled_from(["0", "1"]),
)


@given(networks, states)
def test_any_state_converges_and_stays(desired: NamespaceNetwork, start: Observed) -> None:
    kernel = Kernel(start)
    for _ in range(3):
        for action in plan(desired, kernel.observe()):
            kernel.apply(action)
    assert plan(desired, kernel.observe()) == []
    present = {(one.link, one.address) for one in kernel.addresses}
    assert {(one.link, one.address) for one in desired.addresses} <= present
    assert {one.prefix for one in desired.routes} <= {one.prefix for one in kernel.routes}


@given(networks, states)
def test_what_is_not_ours_survives(desired: NamespaceNetwork, start: Observed) -> None:
    kernel = Kernel(start)
    for action in plan(desired, kernel.observe()):
        kernel.apply(action)
    wanted_bridges = {one.name for one in desired.bridges}
    for one in start.addresses:
        if one.protocol != OURS and one.link == "eth0":
            assert one in kernel.addresses
    foreign = start.links.get("br1")
    if foreign is not None and foreign.alias != BRIDGE_ALIAS and "br1" not in wanted_bridges:
        assert kernel.links["br1"] == foreign
