"""Which pod networks are written on which machine."""

from ipaddress import IPv4Network

from pilvi.api import JsonObject, Key
from pilvi.tenant.nodes import CidrChange, Tenant, plan_pod_cidrs

TENANT = Tenant(Key("default", "first"), "blue", IPv4Network("10.244.0.0/16"))
VPCS = {"sub": "blue", "other": "red"}


def node(name: str, address: str, *cidrs: str) -> JsonObject:
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs[0] if cidrs else "", "podCIDRs": list(cidrs)},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    }


def ip(name: str, address: str, subnet: str = "sub", *, namespace: str = "default", cidrs: str = "", owner: str = "") -> JsonObject:
    annotations = {key: value for key, value in (("pilvi.dev/pod-cidrs", cidrs), ("pilvi.dev/node", owner)) if value}
    return {"metadata": {"name": f"{name}.{namespace}", "annotations": annotations}, "spec": {"v4IpAddress": address, "subnet": subnet}}


def plan(nodes: list[JsonObject], ips: list[JsonObject]) -> list[CidrChange]:
    return plan_pod_cidrs(TENANT, nodes, ips, VPCS)


def test_a_node_tells_its_machine() -> None:
    changes = plan([node("n1", "10.7.0.2", "10.244.1.0/24")], [ip("a", "10.7.0.2"), ip("b", "10.7.0.3")])
    assert changes == [CidrChange("a.default", "10.244.1.0/24", "default/first/n1")]


def test_nothing_to_do() -> None:
    done = ip("a", "10.7.0.2", cidrs="10.244.1.0/24", owner="default/first/n1")
    assert plan([node("n1", "10.7.0.2", "10.244.1.0/24")], [done]) == []


def test_drift_is_repaired() -> None:
    wrong = ip("a", "10.7.0.2", cidrs="10.244.9.0/24", owner="default/first/n1")
    assert plan([node("n1", "10.7.0.2", "10.244.1.0/24")], [wrong]) == [CidrChange("a.default", "10.244.1.0/24", "default/first/n1")]


def test_a_node_that_is_gone_leaves_nothing() -> None:
    left = ip("a", "10.7.0.2", cidrs="10.244.1.0/24", owner="default/first/n1")
    assert plan([], [left]) == [CidrChange("a.default", None, None)]


def test_the_same_address_in_another_vpc_is_another_machine() -> None:
    assert plan([node("n1", "10.7.0.2", "10.244.1.0/24")], [ip("a", "10.7.0.2", "other"), ip("b", "10.7.0.2", "unknown")]) == []


def test_another_tenants_machine_is_left_alone() -> None:
    theirs = ip("a", "10.7.0.2", cidrs="10.244.1.0/24", owner="default/second/n1")
    assert plan([node("n1", "10.7.0.2", "10.244.1.0/24")], [theirs]) == []
    assert plan([], [theirs]) == []


def test_a_node_that_claims_the_address_of_somebody_elses_machine_gets_nothing() -> None:
    claimed = [node("n1", "10.7.0.2", "10.244.1.0/24")]
    assert plan(claimed, [ip("a", "10.7.0.2", namespace="other")]) == []
    written = ip("a", "10.7.0.2", namespace="other", cidrs="10.244.1.0/24", owner="default/first/n1")
    assert plan(claimed, [written]) == [CidrChange("a.other", None, None)]


def test_only_networks_of_the_cluster_itself() -> None:
    nodes = [node("n1", "10.7.0.2", "0.0.0.0/0"), node("n2", "10.7.0.3", "nonsense"), node("n3", "10.7.0.4", "fd00::/64")]
    assert plan(nodes, [ip("a", "10.7.0.2"), ip("b", "10.7.0.3"), ip("c", "10.7.0.4")]) == []


def test_a_node_without_a_network_yet() -> None:
    assert plan([node("n1", "10.7.0.2")], [ip("a", "10.7.0.2")]) == []
