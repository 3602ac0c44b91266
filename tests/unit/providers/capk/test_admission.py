"""What a Cluster and its KubevirtCluster are told before they are stored."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS
from pilvi.api.kubeovn import Subnet
from pilvi.providers import capk
from tests.unit.providers.capk.objects import make_cluster, make_kubevirt_cluster
from tests.unit.providers.checked import leaving, objections, refusals, warnings
from tests.unit.providers.kubeovn.objects import CLOUD


def subnet(cidr: str, name: str = "blue", vpc: str = "sky") -> JsonObject:
    return Subnet.RESOURCE.new(Key("", name), metadata={"uid": name}, spec={"cidrBlock": cidr, "vpc": vpc})


def by_topology(name: str | None = "blue", **network: Any) -> JsonObject:
    variables = [{"name": "cpu", "value": 2}, *([{"name": "subnet", "value": name}] if name else [])]
    return CLUSTERS.new(Key("shop", "first"), spec={"clusterNetwork": network, "topology": {"variables": variables}})


def test_a_cluster_with_a_network_of_its_own_meets_nobody() -> None:
    assert objections(capk, CLOUD, by_topology(None), subnet("10.244.0.0/16")) == []
    assert objections(capk, CLOUD, by_topology("blue"), subnet("10.9.0.0/16")) == []


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({}, "spec.clusterNetwork.pods 10.244.0.0/16 and Subnet blue 10.244.7.0/24 overlap; choose ranges"),
        ({"pods": {"cidrBlocks": ["10.250.0.0/16"]}}, "the cloud's range 10.250.0.0/24"),
        ({"pods": {"cidrBlocks": ["10.32.0.0/16"]}, "services": {"cidrBlocks": ["100.64.0.0/10"]}}, "the cloud's transit pool"),
        ({"pods": {"cidrBlocks": ["10.96.0.0/12"]}}, "spec.clusterNetwork.services 10.96.0.0/16 overlap"),
    ],
)
def test_ranges_that_overlap(network: dict[str, Any], words: str) -> None:
    (message,) = refusals(capk, CLOUD, by_topology(**network), subnet("10.244.7.0/24"))
    assert words in message


def test_a_subnet_may_come_later() -> None:
    for others in ([], [leaving(subnet("10.244.7.0/24"))]):
        assert refusals(capk, CLOUD, by_topology(), *others) == []
        (message,) = warnings(capk, CLOUD, by_topology(), *others)
        assert "there is no Subnet blue; create it" in message


def test_a_cluster_that_has_its_network_already() -> None:
    """The Subnet in which it lives counts, whoever made it."""
    infrastructure = make_kubevirt_cluster(pilvi_dev__vpc="sky", pilvi_dev__subnet="blue")
    moved = make_cluster(pods={"cidrBlocks": ["10.7.0.0/16"]})
    for obj, other in ((moved, infrastructure), (infrastructure, moved)):
        (message,) = refusals(capk, CLOUD, obj, other, subnet("10.7.7.0/24"))
        assert "Subnet blue 10.7.7.0/24 overlap" in message
        assert objections(capk, CLOUD, obj, other, subnet("10.8.0.0/16")) == []


def test_names_that_do_not_fit_together_may_still_be_mended() -> None:
    infrastructure = make_kubevirt_cluster(pilvi_dev__vpc="sky")
    assert objections(capk, CLOUD, infrastructure) == [], "its Cluster says more, and is not there"
    assert refusals(capk, CLOUD, infrastructure, make_cluster()) == []
    (message,) = warnings(capk, CLOUD, infrastructure, make_cluster())
    assert "Vpc sky, named by annotation pilvi.dev/vpc, has no Subnet" in message


def test_a_subnet_whose_range_is_none() -> None:
    (message,) = warnings(capk, CLOUD, by_topology(), subnet("10.9.0.5/16"))
    assert "spec.cidrBlock of Subnet blue is no IPv4 network" in message
