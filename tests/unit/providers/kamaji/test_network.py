"""What the namespace of a control plane has to look like."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pilvi.controlplane import control_plane_filter
from pilvi.providers.kamaji.tenantcontrolplane.network import find_subnets, plan_network, vpc_name
from tests.unit.providers.kamaji.objects import ADDRESS, cloud, plane, tenant

BLUE = IPv4Network("10.7.0.0/24")


def test_without_a_router_the_cloud_bridge_alone() -> None:
    wanted = plan_network(cloud(), plane(), [BLUE], None)
    assert wanted.leg is None
    assert [str(route.prefix) for route in wanted.inside.routes] == ["0.0.0.0/0"]
    assert wanted.inside.routes[0].via == IPv4Address("10.250.3.1")
    assert wanted.uplink.a.master == "pvaaaaa"


def test_machines_and_pods_by_the_leg_with_the_cloud_address_as_source() -> None:
    wanted = plan_network(cloud(), plane(), [BLUE, BLUE], "pv-aaaaa-vpc-1")
    assert wanted.leg is not None
    assert wanted.leg.b.netns == "pv-aaaaa-vpc-1"
    assert wanted.leg.b.addresses == (IPv4Interface("169.254.0.14/31"),)
    assert IPv4Interface("169.254.0.15/31") in [address.address for address in wanted.inside.addresses]
    inside = {str(route.prefix): route for route in wanted.inside.routes}
    assert set(inside) == {"0.0.0.0/0", "10.7.0.0/24", "10.244.0.0/16"}
    assert {inside[prefix].src for prefix in ("10.7.0.0/24", "10.244.0.0/16")} == {ADDRESS}
    assert inside["10.7.0.0/24"].via == IPv4Address("169.254.0.14")


def test_the_filter_knows_the_port_that_the_object_asks_for() -> None:
    obj = tenant()
    obj["spec"]["networkProfile"] = {**obj["spec"].get("networkProfile", {}), "port": 7443}
    wanted = plan_network(cloud(), plane(obj), [], None)
    assert wanted.filter == control_plane_filter(plane(obj), "pilvi-aaaaa")
    assert wanted.filter != plan_network(cloud(), plane(), [], None).filter


def test_subnets_of_the_vpc_only() -> None:
    subnets = [
        {"metadata": {"name": "a"}, "spec": {"vpc": "blue", "cidrBlock": "10.7.0.0/24"}},
        {"metadata": {"name": "b"}, "spec": {"vpc": "red", "cidrBlock": "10.8.0.0/24"}},
        {"metadata": {"name": "c"}, "spec": {"cidrBlock": "10.9.0.0/24"}},
        {"metadata": {"name": "d"}, "spec": {"vpc": "blue", "cidrBlock": "nonsense"}},
        {"metadata": {"name": "e"}},
    ]
    assert find_subnets(subnets, "blue") == {"Subnet a": BLUE}
    assert list(find_subnets(subnets, "ovn-cluster")) == ["Subnet c"]


def test_the_vpc_is_the_annotation_or_the_default() -> None:
    obj = tenant()
    assert vpc_name(obj) == "ovn-cluster"
    obj["metadata"]["annotations"] = {"pilvi.dev/vpc": "blue"}
    assert vpc_name(obj) == "blue"
