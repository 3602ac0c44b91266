"""What a Subnet or a machine is told before it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers import kubeovn
from tests.unit.providers.checked import leaving, objections, refusals, warnings
from tests.unit.providers.kubeovn.objects import CLOUD, make_control_plane, make_ip, make_subnet, make_vpc

VPC, LAB = make_vpc("one"), make_subnet("a", "10.0.1.0/24")


def make_vm(name: str = "web", **annotations: str) -> JsonObject:
    notes = {f"ovn.kubernetes.io/{note}": value for note, value in annotations.items()}
    return VirtualMachine.RESOURCE.new(
        Key("team", name), metadata={"uid": f"uid-{name}"}, spec={"template": {"metadata": {"annotations": notes}, "spec": {}}}
    )


def make_instance(name: str = "web", **annotations: str) -> JsonObject:
    notes = {f"ovn.kubernetes.io/{note}": value for note, value in annotations.items()}
    return VirtualMachineInstance.RESOURCE.new(Key("team", name), metadata={"uid": f"uid-{name}", "annotations": notes}, spec={})


def owned(ip: JsonObject) -> JsonObject:
    """An IP object as the reconciler makes it, not by hand."""
    return {**ip, "metadata": {**ip["metadata"], "labels": {"pilvi.dev/owner-uid": "uid"}}}


def test_a_subnet_among_others_is_fine() -> None:
    others = [VPC, LAB, make_subnet("far", "10.0.2.0/24", vpc="two")]
    assert objections(kubeovn, CLOUD, make_subnet("b", "10.0.2.0/24"), *others) == []


@pytest.mark.parametrize(
    ("cidr", "words"),
    [
        ("10.0.0.0/16", ["10.0.0.0/16 overlaps 10.0.1.0/24 of Subnet a in the same Vpc one", "choose another network"]),
        ("10.250.0.128/25", ["the cloud's range 10.250.0.0/24", "choose another network"]),
        ("100.64.0.0/10", ["the cloud's transit pool 100.64.0.0/24"]),
        ("169.254.7.0/24", ["the link-local network"]),
        ("10.0.2.5/24", ["write the network itself, 10.0.2.0/24"]),
    ],
)
def test_a_subnet_in_the_way_of_others(cidr: str, words: list[str]) -> None:
    """It was written last, whatever its name and time stamp say."""
    (message,) = refusals(kubeovn, CLOUD, make_subnet("0", cidr, created="2020-01-01T00:00:00Z"), VPC, LAB)
    assert all(word in message for word in words), message


def test_what_is_being_deleted_is_in_nobodys_way() -> None:
    assert refusals(kubeovn, CLOUD, make_subnet("b", "10.0.1.0/24"), VPC, leaving(LAB)) == []


def test_a_subnet_is_not_in_its_own_way() -> None:
    assert refusals(kubeovn, CLOUD, make_subnet("a", "10.0.0.0/16"), VPC, LAB, make_ip("web", "10.0.1.9")) == []


def test_a_range_that_leaves_machines_out() -> None:
    (message,) = refusals(kubeovn, CLOUD, make_subnet("a", "10.0.2.0/24"), VPC, LAB, make_ip("web", "10.0.1.9"))
    assert "leaves out 10.0.1.9" in message
    gone = owned(make_ip("web", "10.0.1.9"))
    assert refusals(kubeovn, CLOUD, make_subnet("a", "10.0.2.0/24"), VPC, LAB, gone) == []


def test_a_vpc_may_come_later() -> None:
    assert refusals(kubeovn, CLOUD, LAB) == []
    (message,) = warnings(kubeovn, CLOUD, LAB)
    assert "there is no Vpc one; create it" in message


@pytest.mark.parametrize("make", [make_vm, make_instance])
@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"ip_address": "10.0.1.9"}, "10.0.1.9 is in use in Vpc one; ask for another"),
        ({"ip_address": "10.0.2.9"}, "not a host address of Subnet a, 10.0.1.0/24"),
        ({"ip_address": "10.0.1.1"}, "is the gateway of Subnet a"),
        ({"ip_address": "here"}, "is not an IPv4 address"),
        ({"mac_address": "02:00:00:00:00:05"}, "is in use in this Vpc"),
    ],
)
def test_a_request_that_cannot_be_met(make: Any, annotations: dict[str, str], words: str) -> None:
    taken = owned(make_ip("other", "10.0.1.9"))
    (message,) = refusals(kubeovn, CLOUD, make(logical_switch="a", **annotations), VPC, LAB, taken, make_vm("other"))
    assert words in message


@pytest.mark.parametrize("make", [make_vm, make_instance])
def test_what_a_machine_has_is_its_own(make: Any) -> None:
    wish = {"logical_switch": "a", "ip_address": "10.0.1.9"}
    assert objections(kubeovn, CLOUD, make(**wish), VPC, LAB, owned(make_ip("web", "10.0.1.9")), make(**wish)) == []


@pytest.mark.parametrize("holder", [[], [leaving(make_vm("other")), make_instance("other")]], ids=["gone", "going"])
def test_an_address_is_free_when_its_machine_goes(holder: list[JsonObject]) -> None:
    """The IP object outlives the machine by a moment, in which a script makes the next one."""
    wish = make_vm(logical_switch="a", ip_address="10.0.1.9")
    assert refusals(kubeovn, CLOUD, wish, VPC, LAB, owned(make_ip("other", "10.0.1.9")), *holder) == []


def test_an_address_that_was_reserved_by_hand_is_taken() -> None:
    assert refusals(kubeovn, CLOUD, make_vm(logical_switch="a", ip_address="10.0.1.9"), VPC, LAB, make_ip("vip", "10.0.1.9"))


def test_a_subnet_may_come_later() -> None:
    wish = make_vm(logical_switch="a", ip_address="10.0.1.9")
    assert refusals(kubeovn, CLOUD, wish) == []
    (message,) = warnings(kubeovn, CLOUD, wish)
    assert "there is no Subnet a; create it" in message


def test_a_subnet_or_vpc_for_others() -> None:
    (message,) = refusals(kubeovn, CLOUD, make_vm(logical_switch="a"), VPC, make_subnet("a", namespaces=["else"]))
    assert "add team to its spec.namespaces" in message
    (message,) = refusals(kubeovn, CLOUD, make_control_plane(), make_vpc("one", namespaces=["else"]))
    assert "TenantControlPlane team/cluster wants into Vpc one" in message
    assert refusals(kubeovn, CLOUD, make_control_plane(), make_vpc("one", namespaces=["team"])) == []
    assert refusals(kubeovn, CLOUD, make_control_plane()) == []


def test_a_vpc_does_not_shut_out_who_is_in_it() -> None:
    (message,) = refusals(kubeovn, CLOUD, make_vpc("one", namespaces=["else"]), make_control_plane(), make_control_plane("far", vpc="two"))
    assert "TenantControlPlane team/cluster wants into Vpc one" in message
    assert refusals(kubeovn, CLOUD, make_vpc("one", namespaces=["else"]), leaving(make_control_plane())) == []
    assert refusals(kubeovn, CLOUD, make_vpc("one", namespaces=["else", "team"]), make_control_plane()) == []


def make_definition(config: str) -> JsonObject:
    return NetworkAttachmentDefinition.RESOURCE.new(Key("team", "back"), metadata={"uid": "uid-back"}, spec={"config": config})


GOOD = '{"type": "kube-ovn", "provider": "back.team.ovn"}'


def test_networks_of_others_are_refused_when_they_are_made() -> None:
    assert objections(kubeovn, CLOUD, make_definition(GOOD)) == []
    (message,) = refusals(kubeovn, CLOUD, make_definition('{"type": "macvlan", "master": "eth1"}'))
    assert "'macvlan' is not served; write type kube-ovn with provider back.team.ovn" in message
    assert warnings(kubeovn, CLOUD, make_definition(GOOD.replace("}", ', "mtu": 1400}'))) == ["spec.config: mtu has no effect"]


def test_a_machine_is_told_what_its_second_network_lacks() -> None:
    vm = make_vm()
    vm["spec"]["template"]["spec"] = {"networks": [{"name": "a", "pod": {}}, {"name": "b", "multus": {"networkName": "back"}}]}
    pod, back = make_subnet("ovn-default"), make_subnet("back", "10.0.2.0/24", provider="back.team.ovn")
    assert objections(kubeovn, CLOUD, vm, VPC, pod, back, make_definition(GOOD)) == []
    missing = warnings(kubeovn, CLOUD, vm, VPC, pod)
    assert any("there is no NetworkAttachmentDefinition team/back; create it" in message for message in missing)
    assert any("no Subnet has spec.provider back.team.ovn" in message for message in missing)
    vm["spec"]["template"]["metadata"]["annotations"] = {"back.team.ovn.kubernetes.io/ip_address": "10.0.1.9"}
    (message,) = refusals(kubeovn, CLOUD, vm, VPC, pod, back, make_definition(GOOD))
    assert "back.team.ovn.kubernetes.io/ip_address: 10.0.1.9 is not a host address of Subnet back" in message
