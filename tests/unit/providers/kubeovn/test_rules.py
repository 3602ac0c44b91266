"""The shape of a router's rules; what they do is tested with packets in tests/host."""

from __future__ import annotations

import json
from typing import Any

from pilvi.api import JsonObject
from pilvi.host.nft import render
from pilvi.providers.kubeovn.vpc.router import Router
from pilvi.providers.kubeovn.vpc.rules import router_rules
from tests.unit.providers.kubeovn.objects import make_control_plane, make_ip, make_service, make_slice
from tests.unit.providers.kubeovn.test_router import build


def rules(router: Router, chain: str) -> list[list[JsonObject]]:
    content = router_rules(router, "t")["content"]
    return [item["rule"]["expr"] for item in content if item.get("rule", {}).get("chain") == chain]


def published(**service: Any) -> Router:
    ips = [make_ip("m1", "10.0.1.5"), make_ip("m2", "10.0.1.6")]
    endpoints = [("10.0.1.5", True, "virt-launcher-m1-x"), ("10.0.1.6", None, "virt-launcher-m2-x")]
    return build(ips=ips, services=[make_service(**service)], slices=[make_slice(*endpoints)])


def test_forwarding_and_input_are_closed_by_default() -> None:
    chains = {item["chain"]["name"]: item["chain"] for item in router_rules(build(), "t")["content"] if "chain" in item}
    assert {name: chains[name]["policy"] for name in ("input", "forward")} == {"input": "drop", "forward": "drop"}


def test_transit_addresses_are_not_for_machines() -> None:
    (outwards,) = [statements for statements in rules(build(), "forward") if "uplink" in json.dumps(statements)]
    (match,) = [entry["match"] for entry in outwards if "!=" in json.dumps(entry)]
    prefixes = {(entry["prefix"]["addr"], entry["prefix"]["len"]) for entry in match["right"]["set"]}
    assert prefixes == {("100.64.0.0", 24), ("169.254.0.0", 16)}


def test_everything_that_leaves_gets_the_transit_address() -> None:
    assert {"snat": {"addr": "100.64.0.5"}} in rules(build(), "postrouting")[0]


def test_each_port_leads_to_all_its_endpoints() -> None:
    (statements,) = rules(published(), "prerouting")
    dnat = statements[-1]["dnat"]["addr"]["map"]
    assert dnat["key"] == {"numgen": {"mode": "random", "mod": 2, "offset": 0}}
    assert dnat["data"]["set"] == [[0, {"concat": ["10.0.1.5", 8080]}], [1, {"concat": ["10.0.1.6", 8080]}]]


def test_a_sticky_service_goes_by_the_client() -> None:
    (statements,) = rules(published(sessionAffinity="ClientIP"), "prerouting")
    assert "jhash" in statements[-1]["dnat"]["addr"]["map"]["key"]


def test_no_endpoints_no_translation() -> None:
    router = build(
        ips=[make_ip("m1", "10.0.1.5")], services=[make_service()], slices=[make_slice(("10.0.1.5", False, "virt-launcher-m1-x"))]
    )
    assert len(router.published) == 1
    assert rules(router, "prerouting") == []


def test_machines_reach_a_control_plane_at_its_address_only() -> None:
    service = make_service("cluster", "10.250.0.7", labels={"kamaji.clastix.io/name": "cluster"})
    router = build(control_planes=[make_control_plane()], services=[service])
    to_leg = [statements for statements in rules(router, "forward") if router.legs[0].link in json.dumps(statements)]
    inwards, outwards = to_leg
    assert "10.250.0.7" in json.dumps(inwards)
    assert "10.250.0.7" not in json.dumps(outwards)


def test_equal_inputs_give_equal_rules_and_nft_gets_one_transaction() -> None:
    assert router_rules(published(), "t") == router_rules(published(), "t")
    commands = json.loads(render([router_rules(published(), "t")]))["nftables"]
    assert {command["add"]["rule"]["table"] for command in commands if "rule" in command.get("add", {})} == {"t"}
