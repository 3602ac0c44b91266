"""Which cloud address a Service gets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject
from pilvi.providers.loadbalancer.allocation import Refusal, choose_cloud_address, find_request
from pilvi.providers.published import find_cloud_address
from tests.unit.providers.kubeovn.objects import make_service

POOL = IPv4Network("10.250.0.0/28")


def with_address(service: JsonObject, address: IPv4Address) -> JsonObject:
    return {**service, "status": {"loadBalancer": {"ingress": [{"ip": str(address), "ipMode": "VIP"}]}}}


def test_host_and_platform_keep_theirs() -> None:
    service = make_service(address=None)
    assert choose_cloud_address(service, [service], POOL) == IPv4Address("10.250.0.3")


def test_a_recorded_address_is_kept() -> None:
    service = make_service(address="10.250.0.9")
    assert choose_cloud_address(service, [service], POOL) == IPv4Address("10.250.0.9")


def test_requests_in_the_order_of_metallb() -> None:
    annotations = {"metallb.io/loadBalancerIPs": "10.250.0.5", "metallb.universe.tf/loadBalancerIPs": "10.250.0.6"}
    assert find_request(make_service(annotations=annotations, loadBalancerIP="10.250.0.7")) == "10.250.0.5"
    del annotations["metallb.io/loadBalancerIPs"]
    assert find_request(make_service(annotations=annotations, loadBalancerIP="10.250.0.7")) == "10.250.0.6"
    assert find_request(make_service(loadBalancerIP="10.250.0.7")) == "10.250.0.7"
    assert find_request(make_service(loadBalancerIP="")) is None


def test_a_changed_request_moves_the_service() -> None:
    service = make_service(address="10.250.0.9", loadBalancerIP="10.250.0.4")
    assert choose_cloud_address(service, [service], POOL) == IPv4Address("10.250.0.4")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("10.250.0.2", "is not allowed in config"),
        ("10.250.0.15", "is not allowed in config"),
        ("192.0.2.1", "is not allowed in config"),
        ("10.250.0.9", 'in use by "team/other"'),
        ("10.250.0.4,fd00::1", "invalid IP"),
    ],
)
def test_refused_requests(request_: str, words: str) -> None:
    service = make_service(address=None, loadBalancerIP=request_)
    answer = choose_cloud_address(service, [service, make_service("other")], POOL)
    assert isinstance(answer, Refusal)
    assert words in answer.message
    assert 'Failed to allocate IP for "team/web"' in answer.message


def test_a_full_range_says_so() -> None:
    services = [make_service(f"s{number}", f"10.250.0.{number}") for number in range(3, 15)]
    new = make_service(address=None)
    answer = choose_cloud_address(new, [*services, new], POOL)
    assert isinstance(answer, Refusal)
    assert "no available IPs" in answer.message


def test_of_two_with_one_address_the_older_keeps_it() -> None:
    old, young = make_service("old"), make_service("young", created="2026-02-01T00:00:00Z")
    assert choose_cloud_address(old, [young, old], POOL) == IPv4Address("10.250.0.9")
    assert choose_cloud_address(young, [young, old], POOL) == IPv4Address("10.250.0.3")


def test_services_of_others_hold_nothing() -> None:
    new = make_service(address=None)
    foreign = make_service("foreign", "10.250.0.3", loadBalancerClass="example.com/other")
    assert choose_cloud_address(new, [new, foreign], POOL) == IPv4Address("10.250.0.3")


@given(st.lists(st.one_of(st.none(), st.integers(0, 15)), max_size=40), st.data())
def test_no_two_services_ever_have_one_address(requests: list[int | None], data: st.DataObject) -> None:
    services: list[JsonObject] = []
    for number, wanted in enumerate(requests):
        if services and data.draw(st.booleans()):
            services.pop(data.draw(st.integers(0, len(services) - 1)))
        spec = {"loadBalancerIP": str(POOL[wanted])} if wanted is not None else {}
        new = make_service(f"s{number}", None, created=f"2026-01-01T00:00:{number:02d}Z", **spec)
        choice = choose_cloud_address(new, [*services, new], POOL)
        services.append(new if isinstance(choice, Refusal) else with_address(new, choice))
        held = [address for service in services if (address := find_cloud_address(service)) is not None]
        assert len(set(held)) == len(held)
        assert all(POOL[3] <= address <= POOL[-2] for address in held)
