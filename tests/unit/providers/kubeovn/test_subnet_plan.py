"""What a Subnet asks for, and which answers a person gets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.providers.kubeovn.subnet.addresses import count_addresses, format_ranges, free_ranges, merge_addresses
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan, find_default_subnet, plan_subnet, plan_subnets
from tests.unit.providers.kubeovn.objects import make_plan, make_subnet

RESERVED = {"the cloud's range": IPv4Network("10.250.0.0/24")}


def test_defaults_are_those_of_kube_ovn() -> None:
    plan = make_plan(cidr="10.0.1.0/24", vpc=None)
    assert plan.cidr == IPv4Network("10.0.1.0/24")
    assert plan.gateway == IPv4Address("10.0.1.1")
    assert plan.vpc == "ovn-cluster"
    assert (plan.gateway, plan.gateway) in plan.excludes


def test_nulls_of_hand_written_manifests_are_defaults() -> None:
    assert isinstance(
        plan_subnet(make_subnet(gateway=None, excludeIps=None, namespaces=None, allowSubnets=None, protocol=None)), SubnetPlan
    )


@pytest.mark.parametrize(
    ("cidr", "spec", "reason", "words"),
    [
        (None, {}, "InvalidCIDR", "spec.cidrBlock"),
        ("tomorrow", {}, "InvalidCIDR", "tomorrow"),
        ("10.0.1.0/31", {}, "InvalidCIDR", "no room"),
        ("10.0.1.77/24", {}, "InvalidCIDR", "write the network itself, 10.0.1.0/24"),
        ("127.0.0.0/8", {}, "InvalidCIDR", "127.0.0.0/8"),
        ("0.0.0.0/0", {}, "InvalidCIDR", "0.0.0.0/0"),
        ("224.0.0.0/24", {}, "InvalidCIDR", "224.0.0.0/24"),
        ("10.0.1.0/24,fd00::/64", {}, "ProtocolNotSupported", "spec.protocol"),
        ("fd00::/64", {}, "ProtocolNotSupported", "fd00::/64"),
        ("10.0.1.0/24", {"protocol": "Dual"}, "ProtocolNotSupported", "only IPv4"),
        ("10.0.1.0/24", {"gateway": "10.0.2.1"}, "InvalidGateway", "10.0.2.1"),
        ("10.0.1.0/24", {"gateway": "10.0.1.255"}, "InvalidGateway", "10.0.1.255"),
        ("10.0.1.0/24", {"gateway": "first"}, "InvalidGateway", "first"),
        ("10.0.1.0/24", {"excludeIps": ["10.0.1.9..10.0.1.3"]}, "InvalidExcludeIps", "10.0.1.9..10.0.1.3"),
        ("10.0.1.0/24", {"excludeIps": ["10.0.2.9"]}, "InvalidExcludeIps", "10.0.2.9"),
        ("10.0.1.0/24", {"allowSubnets": ["all"]}, "InvalidAllowSubnets", "all"),
        ("10.0.1.0/24", {"allowSubnets": ["10.0.2.5/24"]}, "InvalidAllowSubnets", "10.0.2.5/24"),
    ],
)
def test_refusals_name_field_and_value(cidr: str | None, spec: dict[str, Any], reason: str, words: str) -> None:
    refusal = plan_subnet(make_subnet(cidr=cidr, **spec))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert words in refusal.message


def test_overlap_matters_inside_one_vpc_and_the_older_subnet_stays() -> None:
    subnets = [
        make_subnet("young", "10.0.0.0/16", created="2026-01-02T00:00:00Z"),
        make_subnet("old", "10.0.1.0/24"),
        make_subnet("elsewhere", "10.0.1.0/24", vpc="two"),
    ]
    plans = plan_subnets(subnets, RESERVED)
    assert isinstance(plans["old"], SubnetPlan)
    assert isinstance(plans["elsewhere"], SubnetPlan)
    young = plans["young"]
    assert isinstance(young, Refusal)
    assert (young.reason, "Subnet old" in young.message) == ("CIDRConflict", True)
    # When the older one goes, the younger is served.
    assert isinstance(plan_subnets([subnets[0]], RESERVED)["young"], SubnetPlan)


def test_the_clouds_own_networks_are_refused() -> None:
    refusal = plan_subnets([make_subnet("a", "10.250.0.0/16")], RESERVED)["a"]
    assert isinstance(refusal, Refusal)
    assert "the cloud's range" in refusal.message


def test_the_default_subnet() -> None:
    named, marked = make_plan("ovn-default"), make_plan("other", "10.0.2.0/24", default=True)
    assert find_default_subnet([named, make_plan("x", "10.0.3.0/24")]) == named
    assert find_default_subnet([named, marked]) == marked
    assert find_default_subnet([]) is None


def test_free_addresses_as_kube_ovn_writes_them() -> None:
    plan = make_plan(cidr="10.0.1.0/28", excludeIps=["10.0.1.4..10.0.1.6"])
    free = free_ranges(plan, [IPv4Address("10.0.1.2"), IPv4Address("10.0.1.10")])
    assert format_ranges(free) == "10.0.1.3,10.0.1.7-10.0.1.9,10.0.1.11-10.0.1.14"
    assert count_addresses(free) == 8
    assert (
        format_ranges(merge_addresses([IPv4Address("10.0.1.3"), IPv4Address("10.0.1.2"), IPv4Address("10.0.1.9")]))
        == "10.0.1.2-10.0.1.3,10.0.1.9"
    )


@given(
    prefix=st.integers(22, 30),
    used=st.sets(st.integers(0, 1023)),
    excluded=st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 1023)), max_size=4),
)
def test_free_ranges_are_what_counting_one_by_one_gives(prefix: int, used: set[int], excluded: list[tuple[int, int]]) -> None:
    cidr = IPv4Network((0x0A000000, prefix))
    size = cidr.num_addresses
    ranges = [tuple(sorted((low % size, high % size))) for low, high in excluded]
    plan = make_plan(cidr=str(cidr), excludeIps=[f"{cidr[low]}..{cidr[high]}" for low, high in ranges])
    taken = {cidr[number % size] for number in used}
    slow = [
        address
        for address in cidr.hosts()
        if address not in taken and address != plan.gateway and not any(cidr[low] <= address <= cidr[high] for low, high in ranges)
    ]
    free = free_ranges(plan, taken)
    assert [IPv4Address(number) for low, high in free for number in range(int(low), int(high) + 1)] == slow
    assert count_addresses(free) == len(slow)
