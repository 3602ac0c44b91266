"""The shape of the rules for taps; what they do is tested with frames in tests/host."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubeovn.vpc.inbound import EVERYTHING, Openings, inbound_rules, read_openings
from pilvi.providers.kubeovn.vpc.ports import port_rules
from pilvi.providers.kubeovn.vpc.router import Router
from pilvi.providers.names import machine_port, port_in_slot
from tests.unit.providers.kubeovn.objects import make_ip, make_vpc
from tests.unit.providers.kubeovn.test_dhcp import make_instance
from tests.unit.providers.kubeovn.test_router import build

PORT = machine_port("uid-vmi-web")


def chains(router: Router) -> dict[str, list[list[JsonObject]]]:
    content = port_rules(router, "t")["content"]
    found: dict[str, list[list[JsonObject]]] = {item["chain"]["name"]: [] for item in content if "chain" in item}
    for item in content:
        if "rule" in item:
            found[item["rule"]["chain"]].append(item["rule"]["expr"])
    return found


def sources(router: Router) -> set[IPv4Network]:
    """What the machine may use as source."""
    (rule,) = [rule for rule in chains(router)[PORT] if rule[-1] == {"accept": None} and _field(rule[0]) == "saddr" and len(rule) == 1 + 1]
    prefixes: list[Any] = rule[0]["match"]["right"]["set"]
    return {IPv4Network((entry["prefix"]["addr"], entry["prefix"]["len"])) for entry in prefixes}


def _field(statement: JsonObject) -> str:
    return str(statement["match"]["left"]["payload"].get("field"))


def test_only_taps_are_filtered_and_unknown_ones_pass_nothing() -> None:
    rules = chains(build())["prerouting"]
    assert all(rule[0]["match"] == {"op": "==", "left": {"meta": {"key": "iifkind"}}, "right": "tun"} for rule in rules)
    assert rules[-1][1:] == [{"drop": None}]


def test_a_virtual_machine_has_a_chain_while_it_has_an_instance() -> None:
    ips = [make_ip("web", "10.0.1.5")]
    assert set(chains(build(ips=ips))) == {"prerouting"}
    assert set(chains(build(ips=ips, instances=[make_instance("web", fidelity="Sandbox")]))) == {"prerouting"}
    found = chains(build(ips=ips, instances=[make_instance("web")]))
    assert set(found) == {"prerouting", PORT}
    assert json.dumps(found["prerouting"]).count(PORT) == 3, "the port itself, and two jumps to its chain"
    assert json.dumps(found["prerouting"]).count(port_in_slot(PORT, "b")) == 1, "one of them from the second slot"
    assert found[PORT][-1] == [{"drop": None}]


def test_a_machine_may_send_from_its_address_and_its_pods() -> None:
    web = [make_instance("web")]
    assert sources(build(ips=[make_ip("web", "10.0.1.5")], instances=web)) == {IPv4Network("10.0.1.5")}
    node = build(ips=[make_ip("web", "10.0.1.5", pods="10.244.3.0/24")], instances=web)
    assert sources(node) == {IPv4Network("10.0.1.5"), IPv4Network("10.244.3.0/24")}


def test_not_even_a_gateway_may_send_for_its_neighbours() -> None:
    vpc = make_vpc(staticRoutes=[{"cidr": "0.0.0.0/0", "nextHopIP": "10.0.1.5"}])
    found = sources(build(vpc, ips=[make_ip("web", "10.0.1.5")], instances=[make_instance("web")]))
    assert any(IPv4Address("203.0.113.9") in network for network in found)
    inside = [IPv4Network("10.0.1.0/24"), IPv4Network("10.0.2.0/24")]
    assert [network for network in found if any(network.overlaps(subnet) for subnet in inside)] == [IPv4Network("10.0.1.5")]


def test_a_dhcp_question_is_about_its_own_mac() -> None:
    router = build(ips=[make_ip("web", "10.0.1.5")], instances=[make_instance("web")])
    (rule,) = [rule for rule in chains(router)[PORT] if '"base": "th"' in json.dumps(rule)]
    assert rule[1]["match"]["right"] == 0x020000000003
    assert rule[1]["match"]["left"]["payload"] == {"base": "th", "offset": 288, "len": 48}


@pytest.mark.parametrize(
    ("interface", "openings"),
    [
        ({"masquerade": {}}, EVERYTHING),
        ({"masquerade": {}, "ports": []}, EVERYTHING),
        ({"bridge": {}, "ports": [{"port": 80}]}, EVERYTHING),
        ({"masquerade": {}, "ports": [{"port": 443}, {"port": 80, "name": "web"}]}, Openings(((80, 80), (443, 443)), ())),
        ({"masquerade": {}, "ports": [{"port": 53, "protocol": "UDP"}]}, Openings((), ((53, 53),))),
        (
            {"passtBinding": {}, "ports": [{"port": 1}], "portRanges": [{"start": 2, "end": 9, "protocol": "TCP"}]},
            Openings(((1, 1), (2, 9)), ()),
        ),
    ],
)
def test_what_an_interface_lets_in(interface: JsonObject, openings: Openings) -> None:
    assert read_openings(interface) == openings


def test_ranges_that_overlap_are_one() -> None:
    ranges = ((22, 22), (80, 90), (85, 100), (101, 101), (200, 200))
    rules = json.dumps(list(inbound_rules(Openings(ranges, ()))))
    assert '{"set": [22, {"range": [80, 101]}, 200]}' in rules
    assert '"field": "dport"}}, "right": {"set"' in rules


def test_only_machines_that_name_ports_have_a_chain_for_what_comes_in() -> None:
    instance = make_instance("web")
    assert "postrouting" not in chains(build(ips=[make_ip("web", "10.0.1.5")], instances=[instance]))
    interface = {"name": "default", "masquerade": {}, "ports": [{"port": 80}]}
    instance["spec"] = {"domain": {"devices": {"interfaces": [interface]}}, "networks": [{"name": "default", "pod": {}}]}
    found = chains(build(ips=[make_ip("web", "10.0.1.5")], instances=[instance]))
    assert set(found) == {"prerouting", PORT, "postrouting", f"to-{PORT}"}
    assert found[f"to-{PORT}"][-1] == [{"drop": None}]
    assert '"@asked"' in json.dumps(found[PORT]), "what it sends opens the way for the answer"
    assert json.dumps(found["postrouting"]).count(port_in_slot(PORT, "b")) == 1
