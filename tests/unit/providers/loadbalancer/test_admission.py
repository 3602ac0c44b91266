"""What a Service that asks for a cloud address is told before it is stored."""

from __future__ import annotations

import pytest

from pilvi.api import JsonObject
from pilvi.providers import loadbalancer
from tests.unit.providers.checked import leaving, refusals
from tests.unit.providers.kubeovn.objects import CLOUD, make_control_plane, make_service

TAKEN = make_service("taken", "10.250.0.9")
PLANE = make_control_plane() | {"status": {"controlPlaneEndpoint": "10.250.0.7:6443"}}


def wish(address: str, **spec: str) -> JsonObject:
    return make_service("web", None, annotations={"metallb.io/loadBalancerIPs": address}, **spec)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.250.0.9", 'is in use by "team/taken"; ask for another'),
        ("10.250.0.7", 'is in use by "team/cluster"'),
        ("10.251.0.9", "ask for one of 10.250.0.3 to 10.250.0.254"),
        ("here", "invalid IP"),
    ],
)
def test_an_address_that_cannot_be_had(address: str, words: str) -> None:
    (message,) = refusals(loadbalancer, CLOUD, wish(address), TAKEN, PLANE)
    assert words in message


def test_what_can_be_had() -> None:
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.8"), TAKEN, PLANE) == []
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.9"), leaving(TAKEN)) == []
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.7"), leaving(PLANE)) == []
    own = make_service("web", "10.250.0.8")
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.8"), own) == []


def test_only_those_of_this_cloud_that_ask() -> None:
    full = [make_service(f"s{host}", f"10.250.0.{host}") for host in range(3, 255)]
    assert refusals(loadbalancer, CLOUD, make_service("web", None), *full) == [], "it waits until one is free"
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.9", loadBalancerClass="example.com/other"), TAKEN) == []
    assert refusals(loadbalancer, CLOUD, wish("10.250.0.9") | {"spec": {"type": "ClusterIP"}}, TAKEN) == []
