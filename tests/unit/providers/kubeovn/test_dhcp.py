"""What a machine is told by DHCP, and what a Subnet may say about it."""

from __future__ import annotations

import copy
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.errors import UserError
from pilvi.providers.kubeovn.subnet.dhcp import DhcpOptions, parse_dhcp_options
from pilvi.providers.kubeovn.subnet.plan import Refusal, plan_subnet
from pilvi.providers.kubeovn.vpc.dhcp import dhcp_config
from pilvi.providers.names import subnet_bridge
from tests.unit.providers.kubeovn.objects import make_ip, make_plan, make_subnet
from tests.unit.providers.kubeovn.test_router import build

BRIDGE = subnet_bridge("uid-a")
WEB = "ip-10-0-1-5"


def make_instance(name: str, namespace: str = "team", *, fidelity: str | None = "Tcg", **spec: Any) -> JsonObject:
    conditions = [{"type": "pilvi.dev/Fidelity", "status": "True", "reason": fidelity}] if fidelity else []
    metadata = {"uid": f"uid-vmi-{name}"}
    return VirtualMachineInstance.RESOURCE.new(Key(namespace, name), metadata=metadata, spec=spec, status={"conditions": conditions})


def config(*ips: JsonObject, instances: list[JsonObject]) -> list[str]:
    """The lines about networks and machines."""
    lines = (dhcp_config(build(ips=[*ips], instances=instances)) or "").splitlines()
    return [line for line in lines if line.startswith(("dhcp-range", "dhcp-host", "dhcp-option"))]


def hosts(*ips: JsonObject, instances: list[JsonObject]) -> list[str]:
    return [line for line in config(*ips, instances=instances) if line.startswith("dhcp-host=")]


def test_a_machine_gets_its_address_and_what_it_needs_to_know() -> None:
    assert config(make_ip("web", "10.0.1.5"), instances=[make_instance("web", hostname="www")]) == [
        "dhcp-range=10.0.1.0,static,255.255.255.0",
        f"dhcp-option=tag:{BRIDGE},28,10.0.1.255",
        f"dhcp-option=tag:{BRIDGE},option:mtu,1500",
        f"dhcp-host=02:00:00:00:00:03,tag:{BRIDGE},set:{WEB},10.0.1.5,86313600",
        f'dhcp-option=tag:{WEB},12,"www"',
        f"dhcp-option=tag:{WEB},option:router,10.0.1.1",
        f"dhcp-option=tag:{WEB},option:dns-server,10.0.1.1",
        f"dhcp-option=tag:{WEB},option:domain-name,team",
        f"dhcp-option=tag:{WEB},option:domain-search,team",
    ]


@pytest.mark.parametrize("fidelity", [None, "Sandbox"])
def test_sandboxes_and_who_is_not_known_yet_need_none(fidelity: str | None) -> None:
    router = build(ips=[make_ip("web", "10.0.1.5")], instances=[make_instance("web", fidelity=fidelity)])
    assert dhcp_config(router) is None
    assert dhcp_config(build(ips=[make_ip("web", "10.0.1.5")])) is None


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        ("web", "", "web"),
        ("web.shop", "", "web"),
        ("web", "www", "www"),
        ("web", 'x"\naddress=/#/1.2.3.4', "web"),
        ("a" * 80, "", "a" * 63),
    ],
)
def test_host_names(machine: str, asked: str, expected: str) -> None:
    lines = config(make_ip(machine, "10.0.1.5"), instances=[make_instance(machine, hostname=asked)])
    assert [line for line in lines if f"{WEB},12," in line] == [f'dhcp-option=tag:{WEB},12,"{expected}"']


def test_of_two_that_claim_one_mac_or_address_the_older_has_it() -> None:
    old, young = make_ip("old", "10.0.1.5"), make_ip("new", "10.0.1.6", created="2026-02-01T00:00:00Z")
    assert old["spec"]["macAddress"] == young["spec"]["macAddress"]
    (line,) = hosts(young, old, instances=[make_instance("old"), make_instance("new")])
    assert ",10.0.1.5," in line
    thief = make_ip("thief", "10.0.1.5", created="2026-02-01T00:00:00Z")
    (line,) = hosts(thief, old, instances=[make_instance("old"), make_instance("thief")])
    assert line.startswith("dhcp-host=02:00:00:00:00:03,")


@pytest.mark.parametrize("mac", ["", "soon", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:03,set:x"])
def test_without_a_mac_there_is_no_lease(mac: str) -> None:
    ip = make_ip("web", "10.0.1.5")
    ip["spec"]["macAddress"] = mac
    assert config(ip, instances=[make_instance("web")]) == []


def test_a_subnet_may_say_it_otherwise() -> None:
    options = "router=10.0.2.9,dns_server={10.0.2.53,10.0.2.54},ntp_server=10.0.2.7,domain_name=corp.example,lease_time=3600"
    plan = make_plan("b", "10.0.2.0/24", mtu=1400, dhcpV4Options=options)
    router = build(ips=[make_ip("web", "10.0.2.5", "b")], instances=[make_instance("web")])
    text = dhcp_config(replace(router, subnets=(plan,))) or ""
    for word in (
        "router,10.0.2.9",
        "dns-server,10.0.2.53,10.0.2.54",
        "ntp-server,10.0.2.7",
        "domain-search,corp.example",
        "mtu,1400",
        "10.0.2.5,3600",
    ):
        assert f"{word}\n" in text


def test_options_of_a_subnet() -> None:
    text = (
        "lease_time=3600, router=10.0.1.9,server_id=169.254.0.254,server_mac=00:00:00:2E:2F:B8,dns_server={10.0.1.53, 10.0.1.54},mtu=1400"
    )
    servers = (IPv4Address("10.0.1.53"), IPv4Address("10.0.1.54"))
    expected = DhcpOptions(router=IPv4Address("10.0.1.9"), dns_servers=servers, mtu=1400, lease_s=3600)
    assert parse_dhcp_options(text) == expected
    assert parse_dhcp_options("") == DhcpOptions()
    assert parse_dhcp_options('domain_name="Corp.example"').domain == "corp.example"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("soon", "name=value"),
        ("lease_time=3600,", ""),
        ("lease_time=1", "120"),
        ("mtu=99999999999999999999", "65535"),
        ("router=10.0.1", "10.0.1"),
        ("dns_server={10.0.1.5\n,6}", "dns_server"),
        ("wpad=http://x", "wpad"),
        ("domain_name=x\ny", "domain"),
    ],
)
def test_options_that_are_refused(text: str, word: str) -> None:
    if not word:
        assert parse_dhcp_options(text) == DhcpOptions(lease_s=3600)
        return
    with pytest.raises(UserError, match=word):
        parse_dhcp_options(text)
    refused = plan_subnet(make_subnet(dhcpV4Options=text))
    assert isinstance(refused, Refusal)
    assert refused.reason == "InvalidDHCPOptions"


@pytest.mark.parametrize(("mtu", "expected"), [(None, 1500), (0, 1500), (1400, 1400), (575, "InvalidMTU"), (65536, "InvalidMTU")])
def test_sizes_of_packets(mtu: int | None, expected: int | str) -> None:
    plan = plan_subnet(make_subnet(mtu=mtu))
    assert (plan.reason if isinstance(plan, Refusal) else plan.mtu) == expected


TWO: dict[str, Any] = {
    "domain": {"devices": {"interfaces": [{"name": "default"}, {"name": "second", "dhcpOptions": {}}]}},
    "networks": [{"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "back"}}],
}


def second_lines(annotations: dict[str, str] | None = None, *, subnet: str = "", **options: Any) -> list[str]:
    """What the second interface of a machine is told, beside its name; it is 10.0.2.5 in Subnet b."""
    spec = copy.deepcopy(TWO)
    spec["domain"]["devices"]["interfaces"][1]["dhcpOptions"] = options
    instance = make_instance("web", **spec)
    instance["metadata"]["annotations"] = annotations or {}
    ips = [make_ip("web", "10.0.1.5"), make_ip("web", "10.0.2.5", "b")]
    ips[1]["metadata"]["name"] = "web.team.back.team.ovn"
    ips[1]["spec"]["macAddress"] = "02:00:00:00:00:77"
    plan = make_plan("b", "10.0.2.0/24", dhcpV4Options=subnet, provider="back.team.ovn")
    router = replace(build(ips=ips, instances=[instance]), subnets=(make_plan("a"), plan))
    prefix = "dhcp-option=tag:ip-10-0-2-5,"
    return [line.removeprefix(prefix) for line in (dhcp_config(router) or "").splitlines() if line.startswith(prefix)]


def test_a_machine_learns_one_way_out() -> None:
    assert second_lines() == ['12,"web"', "option:router", "option:dns-server"]
    assert second_lines(subnet="router=10.0.2.9,domain_name=corp.example") == [
        '12,"web"',
        "option:router,10.0.2.9",
        "option:dns-server",
        "option:domain-name,corp.example",
        "option:domain-search,corp.example",
    ]
    assert "option:router,10.0.2.1" in second_lines({"back.team.ovn.kubernetes.io/default_route": "true"})


def test_an_interface_asks_for_more() -> None:
    lines = second_lines(
        tftpServerName="10.0.2.7",
        bootFileName="grub/a,b.efi",
        ntpServers=["10.0.2.8", "10.0.2.9"],
        privateOptions=[{"option": 226, "value": "10"}, {"option": 12, "value": "evil"}],
    )
    assert lines[-5:] == [
        "option:ntp-server,10.0.2.8,10.0.2.9",
        "option:server-ip-address,10.0.2.7",
        '66,"10.0.2.7"',
        '67,"grub/a,b.efi"',
        '226,"10"',
    ]


@pytest.mark.parametrize("text", ['x"\naddress=/#/1.2.3.4', "a\\b", "\x00", "é", "x" * 201])
def test_what_could_be_read_as_more_than_text_is_left_out(text: str) -> None:
    assert second_lines(bootFileName=text, privateOptions=[{"option": 226, "value": text}]) == second_lines()
