"""From objects to one router: transit address, legs, routes, published addresses, and the kernel's view of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.host.network import Address, Route
from pilvi.providers.kubeovn.vpc.network import router_network, router_uplink
from pilvi.providers.kubeovn.vpc.router import Router, build_router
from pilvi.providers.kubeovn.vpc.status import vpc_status
from pilvi.providers.kubeovn.vpc.transit import choose_transit, find_own_transit, find_transit
from pilvi.providers.legs import control_plane_leg
from pilvi.providers.published import publish, vpcs_of_subnets
from tests.unit.providers.kubeovn.objects import (
    CLOUD,
    make_control_plane,
    make_ip,
    make_plan,
    make_service,
    make_slice,
    make_subnet,
    make_vpc,
)

TRANSIT = IPv4Address("100.64.0.5")
EVERYWHERE = IPv4Network("0.0.0.0/0")


def build(
    vpc: JsonObject | None = None,
    *,
    ips: list[JsonObject] | None = None,
    instances: list[JsonObject] | None = None,
    control_planes: list[JsonObject] | None = None,
    services: list[JsonObject] | None = None,
    slices: list[JsonObject] | None = None,
) -> Router:
    found = ips or []
    subnets = [make_subnet("a"), make_subnet("b", "10.0.2.0/24"), make_subnet("z", vpc="two")]
    vpcs = vpcs_of_subnets(subnets)
    published = [item for service in services or [] if (item := publish(service, slices or [], found, vpcs)) is not None]
    return build_router(
        vpc or make_vpc(),
        cloud=CLOUD,
        transit=TRANSIT,
        subnets=[make_plan("a"), make_plan("b", "10.0.2.0/24"), make_plan("z", vpc="two")],
        ips=found,
        instances={Key.of(instance): instance for instance in instances or []},
        control_planes=control_planes or [],
        services={Key.of(service): service for service in services or []},
        published=published,
    )


def routes(router: Router, *links: str) -> dict[IPv4Network, Route]:
    return {route.prefix: route for route in router_network(router, CLOUD, links).routes}


class TestTransit:
    def test_the_host_has_the_first_address(self) -> None:
        assert choose_transit(make_vpc(), [make_vpc()], CLOUD.transit) == CLOUD.transit[2]

    def test_a_recorded_address_is_kept(self) -> None:
        vpc = make_vpc(transit="100.64.0.77")
        assert choose_transit(vpc, [vpc, make_vpc("two", transit="100.64.0.2")], CLOUD.transit) == IPv4Address("100.64.0.77")

    @pytest.mark.parametrize("text", ["", "soon", "100.64.0.1", "100.64.0.0", "100.64.0.255", "10.0.0.1"])
    def test_a_wrong_record_is_none(self, text: str) -> None:
        assert find_transit(make_vpc(transit=text), CLOUD.transit) is None

    def test_a_copied_annotation_gives_way(self) -> None:
        old, young = make_vpc("old", transit="100.64.0.9"), make_vpc("young", transit="100.64.0.9", created="2026-02-01T00:00:00Z")
        both = [young, old]
        assert choose_transit(old, both, CLOUD.transit) == IPv4Address("100.64.0.9")
        assert find_own_transit(old, both, CLOUD.transit) == IPv4Address("100.64.0.9")
        assert find_own_transit(young, both, CLOUD.transit) is None
        assert choose_transit(young, both, CLOUD.transit) == IPv4Address("100.64.0.2")

    def test_an_empty_pool_is_a_users_error(self) -> None:
        vpcs = [make_vpc(f"v{number}", transit=f"100.64.0.{number}") for number in range(2, 255)]
        with pytest.raises(UserError, match=r"100\.64\.0\.0/24"):
            choose_transit(make_vpc(), vpcs, CLOUD.transit)

    @given(st.lists(st.booleans(), max_size=60), st.data())
    def test_no_two_have_the_same(self, steps: list[bool], data: st.DataObject) -> None:
        vpcs: list[JsonObject] = []
        for number, adds in enumerate(steps):
            if not adds and vpcs:
                vpcs.pop(data.draw(st.integers(0, len(vpcs) - 1)))
                continue
            new = make_vpc(f"v{number}", created=f"2026-01-01T00:{number:02d}:00Z")
            new["metadata"]["annotations"] = {"pilvi.dev/transit": str(choose_transit(new, [*vpcs, new], CLOUD.transit))}
            vpcs.append(new)
            addresses = [find_transit(vpc, CLOUD.transit) for vpc in vpcs]
            assert len(set(addresses)) == len(vpcs)
            assert None not in addresses


class TestNetwork:
    def test_a_router_has_its_subnets_only(self) -> None:
        network = router_network(build(), CLOUD, ())
        bridges = [bridge.name for bridge in network.bridges]
        assert len(bridges) == 2
        assert network.addresses == (
            Address(bridges[0], IPv4Interface("10.0.1.1/24")),
            Address(bridges[1], IPv4Interface("10.0.2.1/24")),
        )
        # A bridge without a fixed MAC would change it with its ports.
        assert all(bridge.mac for bridge in network.bridges)
        assert network.sysctls["net.ipv4.ip_forward"] == "1"

    def test_uplink(self) -> None:
        uplink = router_uplink(build(), CLOUD)
        assert (uplink.a.netns, uplink.a.master, uplink.a.name[:6]) == (None, "pvt1234"[:7], "pvt123")
        assert uplink.b.addresses == (IPv4Interface("100.64.0.5/24"),)

    def test_ways_out(self) -> None:
        found = routes(build())
        assert found[EVERYWHERE].via == IPv4Address("100.64.0.1")
        assert found[CLOUD.range] == Route(prefix=CLOUD.range, dev="uplink", src=TRANSIT)

    def test_legs_are_routed_when_they_are_there(self) -> None:
        service = make_service("cluster", "10.250.0.7", labels={"kamaji.clastix.io/name": "cluster"})
        router = build(control_planes=[make_control_plane()], services=[service])
        leg = control_plane_leg(CLOUD, IPv4Address("10.250.0.7"))
        target = IPv4Network("10.250.0.7/32")
        assert target not in routes(router)
        assert routes(router, leg.outer_link)[target] == Route(prefix=target, via=leg.inner, dev=leg.outer_link)

    @pytest.mark.parametrize(("vpc", "address"), [("two", "10.250.0.7"), (None, "10.250.0.7"), ("one", None), ("one", "192.0.2.1")])
    def test_control_planes_elsewhere_or_without_a_cloud_address_have_no_leg(self, vpc: str | None, address: str | None) -> None:
        service = make_service("cluster", address, labels={"kamaji.clastix.io/name": "cluster"})
        assert build(control_planes=[make_control_plane(vpc=vpc)], services=[service]).legs == ()

    def test_a_control_plane_without_annotation_is_in_the_default_vpc(self) -> None:
        service = make_service("cluster", "10.250.0.7", labels={"kamaji.clastix.io/name": "cluster"})
        assert len(build(make_vpc("ovn-cluster"), control_planes=[make_control_plane(vpc=None)], services=[service]).legs) == 1

    def test_a_vpc_of_other_namespaces_takes_no_control_plane(self) -> None:
        service = make_service("cluster", "10.250.0.7", labels={"kamaji.clastix.io/name": "cluster"})
        router = build(make_vpc(namespaces=["others"]), control_planes=[make_control_plane()], services=[service])
        assert router.legs == ()
        assert "TenantControlPlane team/cluster" in router.problems[0].message
        assert len(build(make_vpc(namespaces=["team"]), control_planes=[make_control_plane()], services=[service]).legs) == 1

    def test_pods_are_behind_their_machine(self) -> None:
        router = build(
            ips=[make_ip("m1", "10.0.1.5", pods="10.244.1.0/24,fd00::/64"), make_ip("m2", "10.0.2.5", "b", pods="10.244.2.0/24")]
        )
        found = routes(router)
        assert found[IPv4Network("10.244.1.0/24")].via == IPv4Address("10.0.1.5")
        assert found[IPv4Network("10.244.2.0/24")].via == IPv4Address("10.0.2.5")
        assert found[IPv4Network("10.244.1.0/24")].dev != found[IPv4Network("10.244.2.0/24")].dev
        assert router.problems == ()

    @pytest.mark.parametrize(
        ("pods", "words"),
        [
            ("10.0.2.0/25", "Subnet b"),
            ("10.250.0.0/28", "the cloud's range"),
            ("10.244.1.0/25", "machine m1.team"),
            ("everything", "not a network"),
        ],
    )
    def test_pod_networks_that_cannot_be_routed_are_said(self, pods: str, words: str) -> None:
        old = make_ip("m1", "10.0.1.5", pods="10.244.1.0/24")
        router = build(ips=[make_ip("m2", "10.0.1.6", pods=pods, created="2026-02-01T00:00:00Z"), old])
        assert [route.destination for route in router.pod_routes] == [IPv4Network("10.244.1.0/24")]
        assert words in router.problems[0].message

    def test_static_routes(self) -> None:
        vpc = make_vpc(staticRoutes=[{"cidr": "192.168.0.0/16", "nextHopIP": "10.0.1.9"}, {"cidr": "0.0.0.0/0", "nextHopIP": "10.0.2.9"}])
        found = routes(build(vpc))
        assert found[IPv4Network("192.168.0.0/16")].via == IPv4Address("10.0.1.9")
        assert found[EVERYWHERE].via == IPv4Address("10.0.2.9")

    @pytest.mark.parametrize(
        "item",
        [
            {"cidr": "192.168.0.0/16", "nextHopIP": "10.0.1.9", "policy": "policySrc"},
            {"cidr": "192.168.0.0/16", "nextHopIP": "10.9.9.9"},
            {"cidr": "192.168.7.5/16", "nextHopIP": "10.0.1.9"},
            {"cidr": "192.168.0.0/16", "nextHopIP": "10.0.1.1"},
            {"cidr": "10.0.2.0/24", "nextHopIP": "10.0.1.9"},
            {"cidr": "10.250.0.7/32", "nextHopIP": "10.0.1.9"},
            {"cidr": None, "nextHopIP": None},
        ],
    )
    def test_static_routes_that_cannot_be_are_said(self, item: dict[str, Any]) -> None:
        router = build(make_vpc(staticRoutes=[item]))
        assert router.static_routes == ()
        assert "spec.staticRoutes[0]" in router.problems[0].message

    def test_a_machine_outside_of_its_subnet_is_left_out(self) -> None:
        router = build(ips=[make_ip("m1", "10.77.0.5", pods="10.244.1.0/24")])
        assert (router.machines, router.pod_routes) == ((), ())

    def test_published_addresses_are_on_the_uplink(self) -> None:
        machine = make_ip("m1", "10.0.1.5")
        router = build(ips=[machine], services=[make_service()], slices=[make_slice(("10.0.1.5", True, "virt-launcher-m1-x"))])
        assert Address("uplink", IPv4Interface("10.250.0.9/32")) in router_network(router, CLOUD, ()).addresses

    def test_an_address_that_we_did_not_give_is_left_alone(self) -> None:
        machine = make_ip("m1", "10.0.1.5")
        slices = [make_slice(("10.0.1.5", True, "virt-launcher-m1-x"))]
        assert build(ips=[machine], services=[make_service(address="192.0.2.1")], slices=slices).published == ()


class TestStatus:
    def test_a_router_that_is_up(self) -> None:
        status = vpc_status(make_vpc(), build(), "ns", [], None)
        assert (status["standby"], status["subnets"], status["router"], status["default"]) == (True, ["a", "b"], "ns", False)
        assert [(entry["type"], entry["status"]) for entry in status["conditions"]] == [("Ready", "True"), ("Error", "False")]

    def test_the_same_again_is_equal(self) -> None:
        vpc = make_vpc()
        vpc["status"] = vpc_status(vpc, build(), "ns", [], None)
        assert vpc_status(vpc, build(), "ns", [], None) == vpc["status"]

    def test_a_failure_keeps_what_was(self) -> None:
        vpc = make_vpc()
        vpc["status"] = {"standby": True, "subnets": ["a"]}
        status = vpc_status(vpc, build(), "ns", [], "nft refused")
        assert (status["standby"], status["subnets"]) == (True, ["a"])
        ready = status["conditions"][0]
        assert (ready["status"], ready["message"]) == ("False", "nft refused")
        assert "observedGeneration" not in ready
