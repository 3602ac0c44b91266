"""Subnet, address and MAC of a machine."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject
from pilvi.providers.attachments import find_attachments
from pilvi.providers.kubeovn.ip.choice import Request, VpcUse, choose_address, choose_mac, choose_subnet, read_request
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan
from tests.unit.providers.kubeovn.objects import make_plan

ANY = Request(None, None, None)
VPCS = {"one": VpcUse()}


def plans(*found: SubnetPlan) -> dict[str, SubnetPlan | Refusal]:
    return {plan.name: plan for plan in found}


def test_a_request_is_read_from_kube_ovns_annotations() -> None:
    annotations = {
        "ovn.kubernetes.io/logical_switch": "a",
        "ovn.kubernetes.io/ip_address": "10.0.1.9",
        "ovn.kubernetes.io/mac_address": "02:AB:00:00:00:01",
    }
    assert read({"metadata": {"annotations": annotations}}) == Request("a", "10.0.1.9", "02:ab:00:00:00:01")
    assert read({"metadata": {"annotations": None}}) == ANY


def test_each_network_is_asked_for_by_its_own_annotations_and_interface() -> None:
    annotations = {
        "ovn.kubernetes.io/ip_address": "10.0.1.9",
        "back.team.ovn.kubernetes.io/ip_address": "10.0.2.9",
        "back.team.ovn.kubernetes.io/logical_switch": "b",
    }
    spec = {
        "domain": {"devices": {"interfaces": [{"name": "default"}, {"name": "second", "macAddress": "02:00:00:00:00:07"}]}},
        "networks": [{"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "back"}}],
    }
    machine = {"metadata": {"annotations": annotations}, "spec": spec}
    assert read(machine) == Request(None, "10.0.1.9", None)
    assert read(machine, 1) == Request("b", "10.0.2.9", "02:00:00:00:00:07", "02:00:00:00:00:07", "back.team.ovn")


def test_another_network_is_that_of_the_subnet_that_says_so_and_of_no_other() -> None:
    request = Request(None, None, None, provider="back.team.ovn")
    found = plans(make_plan("ovn-default"), make_plan("z", "10.0.2.0/24", provider="back.team.ovn"))
    assert choose_subnet(request, "team", found, VPCS) == found["z"]
    assert choose_subnet(ANY, "team", found, VPCS) == found["ovn-default"], "and it is no pod network, even bound to the namespace"
    refusal = choose_subnet(Request(None, None, None, provider="front.team.ovn"), "team", found, VPCS)
    assert isinstance(refusal, Refusal)
    assert "front.team.ovn" in refusal.message
    named = Request("ovn-default", None, None, provider="front.team.ovn")
    assert choose_subnet(named, "team", found, VPCS) == found["ovn-default"]


def test_the_cards_of_a_machine_have_different_macs() -> None:
    assert choose_mac(ANY, "uid", ()) != choose_mac(Request(None, None, None, provider="back.team.ovn"), "uid", ())


def read(machine: JsonObject, place: int = 0) -> Request:
    return read_request(machine, find_attachments(machine.get("spec") or {}, "team")[place])


def test_the_named_subnet_then_the_bound_then_the_default() -> None:
    named, bound, default = make_plan("a"), make_plan("b", namespaces=["team"]), make_plan("ovn-default")
    found = plans(named, bound, default)
    assert choose_subnet(Request("a", None, None), "team", found, VPCS) == named
    assert choose_subnet(ANY, "team", found, VPCS) == bound
    assert choose_subnet(ANY, "others", found, VPCS) == default
    # A Vpc may have a Subnet for its own namespaces.
    vpcs = {"one": VpcUse(), "two": VpcUse(frozenset({"others"}), "c")}
    found["c"] = make_plan("c", vpc="two")
    assert choose_subnet(ANY, "others", found, vpcs) == found["c"]
    assert choose_subnet(ANY, "third", found, vpcs) == default


@pytest.mark.parametrize(
    ("request_", "namespace", "vpcs", "reason"),
    [
        (Request("missing", None, None), "team", VPCS, "SubnetNotFound"),
        (Request("broken", None, None), "team", VPCS, "SubnetNotReady"),
        (ANY, "team", VPCS, "SubnetNotFound"),
        (Request("bound", None, None), "others", VPCS, "NamespaceNotAllowed"),
        (Request("bound", None, None), "team", {}, "VpcNotFound"),
        (Request("bound", None, None), "team", {"one": VpcUse(frozenset({"others"}))}, "NamespaceNotAllowed"),
    ],
)
def test_refused_subnets(request_: Request, namespace: str, vpcs: dict[str, VpcUse], reason: str) -> None:
    found = {**plans(make_plan("bound", namespaces=["team"])), "broken": Refusal("InvalidCIDR", "because")}
    if request_ == ANY:
        del found["bound"]
    answer = choose_subnet(request_, namespace, found, vpcs)
    assert isinstance(answer, Refusal)
    assert answer.reason == reason


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("soon", "InvalidAddress"),
        ("10.0.2.1", "InvalidAddress"),
        ("10.0.1.255", "InvalidAddress"),
        ("10.0.1.1", "AddressConflict"),
        ("10.0.1.5", "AddressConflict"),
    ],
)
def test_refused_addresses(address: str, reason: str) -> None:
    answer = choose_address(Request(None, address, None), make_plan(), {IPv4Address("10.0.1.5")})
    assert isinstance(answer, Refusal)
    assert (answer.reason, address in answer.message) == (reason, True)


def test_an_excluded_address_is_for_those_who_ask() -> None:
    plan = make_plan(excludeIps=["10.0.1.2..10.0.1.20"])
    assert choose_address(ANY, plan, set()) == IPv4Address("10.0.1.21")
    assert choose_address(Request(None, "10.0.1.7", None), plan, set()) == IPv4Address("10.0.1.7")


def test_a_full_subnet_says_what_to_do() -> None:
    plan = make_plan(cidr="10.0.1.0/30")
    first = choose_address(ANY, plan, set())
    assert first == IPv4Address("10.0.1.2")
    answer = choose_address(ANY, plan, {first})
    assert isinstance(answer, Refusal)
    assert answer.reason == "NoAvailableAddress"


@given(st.lists(st.one_of(st.none(), st.integers(0, 63)), max_size=80), st.data())
def test_no_two_machines_get_one_address_or_mac(requests: list[int | None], data: st.DataObject) -> None:
    """Machines come (with or without a request) and go in any order."""
    plan = make_plan(cidr="10.0.1.0/26", excludeIps=["10.0.1.10..10.0.1.12"])
    held: dict[int, tuple[IPv4Address, str]] = {}
    for number, wanted in enumerate(requests):
        if held and data.draw(st.booleans()):
            del held[data.draw(st.sampled_from(sorted(held)))]
        request = Request(None, str(plan.cidr[wanted]) if wanted is not None else None, None)
        addresses = {address for address, _ in held.values()}
        address = choose_address(request, plan, addresses)
        if isinstance(address, Refusal):
            assert wanted is not None or len(addresses) >= 58
            continue
        mac = choose_mac(request, f"uid-{number}", {mac for _, mac in held.values()})
        assert isinstance(mac, str)
        held[number] = (address, mac)
        assert address in plan.cidr
        assert address != plan.gateway
        assert len({address for address, _ in held.values()}) == len({mac for _, mac in held.values()}) == len(held)


def test_macs_are_stable_and_locally_administered() -> None:
    mac = choose_mac(ANY, "uid", ())
    assert isinstance(mac, str)
    assert mac == choose_mac(ANY, "uid", ())
    assert int(mac[:2], 16) & 0b11 == 0b10
    assert choose_mac(ANY, "uid", {mac}) != mac


def test_a_mac_that_is_asked_for() -> None:
    wanted = Request(None, None, "02:00:00:00:00:09")
    assert choose_mac(wanted, "x", ()) == "02:00:00:00:00:09"
    answer = choose_mac(wanted, "x", {"02:00:00:00:00:09"})
    assert isinstance(answer, Refusal)
    assert answer.reason == "AddressConflict"


def ask_by_interface(mac: str, **annotations: str) -> Request:
    interfaces = [{"name": "default", "masquerade": {}, "macAddress": mac}]
    metadata = {"annotations": {f"ovn.kubernetes.io/{name}": value for name, value in annotations.items()}}
    return read({"metadata": metadata, "spec": {"domain": {"devices": {"interfaces": interfaces}}}})


def test_a_mac_is_asked_for_by_the_interface_as_well() -> None:
    assert choose_mac(ask_by_interface("02-AB-00-00-00-01"), "x", ()) == "02:ab:00:00:00:01"
    assert choose_mac(ask_by_interface("02:AB:00:00:00:01", mac_address="02:ab:00:00:00:01"), "x", ()) == "02:ab:00:00:00:01"
    answer = choose_mac(ask_by_interface("02:ab:00:00:00:01", mac_address="02:ab:00:00:00:02"), "x", ())
    assert isinstance(answer, Refusal)
    assert "02:ab:00:00:00:01" in answer.message


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "2:0:0:0:0:1", "soon"])
def test_refused_macs(mac: str) -> None:
    answer = choose_mac(ask_by_interface(mac), "x", ())
    assert isinstance(answer, Refusal)
    assert answer.reason == "InvalidAddress"
