"""Ports of the host: how people write them, and what becomes of them. What the rules do is tested with packets in tests/host."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.host.nft import render
from pilvi.providers.kubeovn.vpc.host_filter import host_filter
from pilvi.providers.kubeovn.vpc.host_ports import HostPort, parse_host_ports
from pilvi.providers.kubeovn.vpc.router import Router
from tests.unit.providers.kubeovn.objects import CLOUD, make_control_plane, make_service, make_vpc
from tests.unit.providers.kubeovn.test_router import build

NAMESERVER = IPv4Address("192.168.1.20")


def router(ports: str, **objects: Any) -> Router:
    vpc = make_vpc()
    vpc["metadata"]["annotations"]["pilvi.dev/host-ports"] = ports
    return build(vpc, **objects)


def rules(*routers: Router, nameservers: tuple[IPv4Address, ...] = ()) -> list[str]:
    content = host_filter(CLOUD, routers, nameservers)["content"]
    return [json.dumps(item["rule"]["expr"]) for item in content if item.get("rule", {}).get("chain") == "host"]


class TestPorts:
    @pytest.mark.parametrize(
        ("text", "ports"),
        [
            ("", []),
            ("  ", []),
            ("5000", [HostPort("tcp", 5000)]),
            ("5000, 123/udp", [HostPort("tcp", 5000), HostPort("udp", 123)]),
            ("53/UDP,53/tcp,53", [HostPort("tcp", 53), HostPort("udp", 53)]),
            ("1,65535", [HostPort("tcp", 1), HostPort("tcp", 65535)]),
        ],
    )
    def test_as_written(self, text: str, ports: list[HostPort]) -> None:
        assert list(parse_host_ports(text)) == ports

    @pytest.mark.parametrize(
        "text", ["0", "65536", "-1", "http", "5000,", ",", "5000 6000", "5000/", "5000/sctp", "5000 /udp", "80-90", "+80", "٣", "9" * 5000]
    )
    def test_half_right_is_wrong(self, text: str) -> None:
        for whole in (text, f"5000,{text}"):
            with pytest.raises(ValueError, match=r"port|protocol"):
                parse_host_ports(whole)

    @given(st.sets(st.builds(HostPort, st.sampled_from(["tcp", "udp"]), st.integers(1, 65535)), max_size=8))
    def test_what_is_written_is_read(self, ports: set[HostPort]) -> None:
        assert parse_host_ports(", ".join(map(str, ports))) == tuple(sorted(ports))

    @given(st.text(alphabet="0123456789/,tudcp -x", max_size=20))
    def test_nothing_else_comes_out(self, text: str) -> None:
        try:
            ports = parse_host_ports(text)
        except ValueError:
            return
        assert all(1 <= port.port <= 65535 and port.protocol in ("tcp", "udp") for port in ports)


def test_a_malformed_list_opens_nothing_and_says_so() -> None:
    found = router("5000, http")
    assert found.host_ports == ()
    (problem,) = found.problems
    assert problem.reason == "InvalidHostPorts"
    assert "'http'" in problem.message


def test_closed_but_for_the_platform() -> None:
    known, icmp, platform, last = rules(build())
    assert "established" in known
    assert "icmp" in icmp
    assert str(CLOUD.platform_address.ip) in platform
    assert json.loads(last) == [{"drop": None}]


def test_names_are_asked_of_the_resolvers_nameservers_only() -> None:
    udp, tcp = rules(nameservers=(NAMESERVER, NAMESERVER))[3:5]
    for protocol, text in (("udp", udp), ("tcp", tcp)):
        address, port, _ = json.loads(text)
        assert address["match"]["right"] == {"set": [str(NAMESERVER)]}
        assert port["match"] == {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": 53}


def test_a_port_is_for_the_router_and_its_control_planes() -> None:
    service = make_service("cluster", "10.250.0.7", labels={"kamaji.clastix.io/name": "cluster"})
    found = router("123/udp", control_planes=[make_control_plane()], services=[service])
    source, port, _ = json.loads(rules(found)[3])
    assert source["match"]["right"] == {"set": ["10.250.0.7", "100.64.0.5"]}
    assert port["match"]["left"]["payload"] == {"protocol": "udp", "field": "dport"}


def test_equal_inputs_give_equal_tables_in_one_transaction() -> None:
    first, second = router("1, 2"), build(make_vpc("two"))
    table = host_filter(CLOUD, [first, second], [NAMESERVER])
    assert table == host_filter(CLOUD, [second, first], [NAMESERVER])
    assert {json.dumps(command) for command in json.loads(render([table]))["nftables"] if "delete" in command} == {
        '{"delete": {"table": {"family": "inet", "name": "pilvi-t1234-host"}}}'
    }
