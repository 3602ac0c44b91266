from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.providers.capk.cluster.network import (
    Attachment,
    Ranges,
    choose_attachment,
    choose_cidr,
    cluster_ranges,
    find_overlap,
    new_subnet,
    new_vpc,
    own_name,
    template_subnet,
)
from tests.unit.providers.capk.objects import make_cluster, make_kubevirt_cluster, make_kubevirt_machine, make_subnet

VPC = {"pilvi_dev__vpc": "mine"}
OWN = own_name(make_kubevirt_cluster())
SUBNETS = {"blue": make_subnet("blue", "sky"), "green": make_subnet("green", "grass"), "m1": make_subnet("m1", "mine")}


def test_without_a_wish_the_cluster_gets_its_own() -> None:
    assert choose_attachment(make_kubevirt_cluster(), [], SUBNETS) == Attachment(OWN, OWN, own=True)
    again = make_kubevirt_cluster(pilvi_dev__vpc=OWN, pilvi_dev__subnet=OWN)
    assert choose_attachment(again, [], SUBNETS) == Attachment(OWN, OWN, own=True)


def test_the_machines_subnet_decides() -> None:
    assert choose_attachment(make_kubevirt_cluster(), ["blue", "blue"], SUBNETS) == Attachment("sky", "blue", own=False)
    moved = make_kubevirt_cluster(pilvi_dev__vpc=OWN, pilvi_dev__subnet=OWN)
    assert choose_attachment(moved, ["blue"], SUBNETS) == Attachment("sky", "blue", own=False)


def test_the_annotation_comes_before_all() -> None:
    assert choose_attachment(make_kubevirt_cluster(**VPC), [], SUBNETS) == Attachment("mine", "m1", own=False)
    assert choose_attachment(make_kubevirt_cluster(**VPC), ["m1"], SUBNETS) == Attachment("mine", "m1", own=False)


@pytest.mark.parametrize(
    ("annotations", "named", "message"),
    [
        ({}, ["none"], "Subnet none"),
        ({}, ["blue", "green"], "2 Vpcs"),
        (VPC, ["blue"], "make them agree"),
        ({"pilvi_dev__vpc": "empty"}, [], "has no Subnet"),
        ({**VPC, "pilvi_dev__subnet": "blue"}, [], "has no Subnet blue"),
    ],
)
def test_what_cannot_be_is_said(annotations: dict[str, str], named: list[str], message: str) -> None:
    answer = choose_attachment(make_kubevirt_cluster(**annotations), named, SUBNETS)
    assert isinstance(answer, str)
    assert message in answer


def test_names_differ_between_clusters_and_stay() -> None:
    other = make_kubevirt_cluster()
    other["metadata"]["uid"] = "another"
    assert own_name(other) != OWN
    assert own_name(make_kubevirt_cluster()) == OWN


def test_objects_name_their_owner_in_labels() -> None:
    vpc, subnet = new_vpc(make_kubevirt_cluster()), new_subnet(make_kubevirt_cluster(), IPv4Network("10.9.0.0/16"))
    labels = {
        "pilvi.dev/owner-kind": "KubevirtCluster",
        "pilvi.dev/owner-namespace": "shop",
        "pilvi.dev/owner-name": "first",
        "pilvi.dev/owner-uid": "kc-uid",
    }
    assert vpc["metadata"]["labels"] == subnet["metadata"]["labels"] == labels
    assert "ownerReferences" not in vpc["metadata"]
    assert vpc["spec"]["namespaces"] == ["shop"]
    assert "namespaces" not in subnet["spec"], "other machines of the namespace would land in it"


def test_ranges_of_a_cluster() -> None:
    ranges = cluster_ranges(make_cluster(pods={"cidrBlocks": ["10.1.0.0/16", "10.2.0.0/16"]}))
    assert [str(network) for network in ranges.pods] == ["10.1.0.0/16", "10.2.0.0/16"]
    assert str(cluster_ranges({"spec": {"clusterNetwork": None}}).services[0]) == "10.96.0.0/16"
    with pytest.raises(UserError, match=r"spec\.clusterNetwork\.pods"):
        cluster_ranges(make_cluster(pods={"cidrBlocks": ["fd00::/48"]}))


@pytest.mark.parametrize(
    ("pods", "services", "names"),
    [
        ("10.96.0.0/12", "10.96.0.0/16", ("spec.clusterNetwork.pods", "spec.clusterNetwork.services")),
        ("10.250.0.0/16", "10.96.0.0/16", ("spec.clusterNetwork.pods", "the cloud's range")),
        ("10.244.0.0/16", "10.9.128.0/17", ("spec.clusterNetwork.services", "Subnet")),
    ],
)
def test_overlaps_name_both(pods: str, services: str, names: tuple[str, str]) -> None:
    ranges = Ranges((IPv4Network(pods),), (IPv4Network(services),))
    message = find_overlap(ranges, {"Subnet": IPv4Network("10.9.0.0/16"), "the cloud's range": IPv4Network("10.250.0.0/24")})
    assert message is not None
    assert all(name in message for name in names)


def test_usual_ranges_do_not_overlap() -> None:
    assert find_overlap(cluster_ranges(make_cluster()), {"Subnet": IPv4Network("10.9.0.0/16")}) is None


NETWORKS = st.builds(lambda base, length: IPv4Network((base, length), strict=False), st.integers(0, 2**32 - 1), st.integers(10, 30))


@given(st.lists(NETWORKS, max_size=4), st.lists(NETWORKS, max_size=4), st.lists(NETWORKS, max_size=3))
def test_the_chosen_range_meets_none(pods: list[IPv4Network], services: list[IPv4Network], others: list[IPv4Network]) -> None:
    chosen = choose_cidr(Ranges(tuple(pods), tuple(services)), others)
    assert not any(chosen.overlaps(network) for network in (*pods, *services, *others))
    assert chosen.prefixlen == 16


def test_the_range_is_equal_in_all_usual_clusters() -> None:
    assert str(choose_cidr(cluster_ranges(make_cluster()), [IPv4Network("10.250.0.0/24")])) == "10.9.0.0/16"


def test_a_full_space_is_an_error() -> None:
    with pytest.raises(UserError, match="no /16"):
        choose_cidr(Ranges((IPv4Network("10.0.0.0/8"),), ()), [])


def test_subnet_of_a_template() -> None:
    switch = {"ovn.kubernetes.io/logical_switch": "blue"}
    assert template_subnet(make_kubevirt_machine(**switch)["spec"]) == "blue"
    assert template_subnet(make_kubevirt_machine()["spec"]) is None
    assert template_subnet({"virtualMachineTemplate": {"metadata": {"annotations": switch}, "spec": None}}) == "blue"
    assert template_subnet({}) is None
