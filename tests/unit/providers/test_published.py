"""Where the traffic of a Service goes."""

from __future__ import annotations

from ipaddress import IPv4Address

from pilvi.api import JsonObject
from pilvi.providers.published import Backend, Published, ServicePort, publish
from tests.unit.providers.kubeovn.objects import make_ip, make_service, make_slice

VPCS = {"a": "one", "b": "one", "z": "two"}


def find(service: JsonObject, slices: list[JsonObject], *ips: JsonObject) -> Published:
    found = publish(service, slices, ips, VPCS)
    assert found is not None
    return found


def test_ready_machines_of_all_ports() -> None:
    service = make_service(ports=(("http", 80, "TCP"), ("dns", 53, "UDP")))
    slices = [make_slice(("10.0.1.6", None, "p"), ("10.0.1.5", True, "p"), ("10.0.1.7", False, "p"), ports=(("http", 8080), ("dns", 5353)))]
    found = find(service, slices, *(make_ip(f"m{number}", f"10.0.1.{number}") for number in (5, 6, 7)))
    backends = [(IPv4Address("10.0.1.5"), 8080), (IPv4Address("10.0.1.6"), 8080)]
    assert found.ports == (
        ServicePort("TCP", 80, tuple(Backend(*backend) for backend in backends)),
        ServicePort("UDP", 53, tuple(Backend(address, 5353) for address, _ in backends)),
    )
    assert (found.vpc, found.problem, found.sticky) == ("one", None, False)


def test_not_ours() -> None:
    for service in (
        make_service(address=None),
        make_service(type="ClusterIP"),
        make_service(loadBalancerClass="example.com/other"),
        make_service(labels={"kamaji.clastix.io/name": "web"}),
    ):
        assert publish(service, [], [], VPCS) is None


def test_the_same_address_in_two_vpcs_is_told_apart_by_the_pod() -> None:
    ips = [make_ip("web", "10.0.1.5", "a"), make_ip("db", "10.0.1.5", "z")]
    assert find(make_service(), [make_slice(("10.0.1.5", True, "virt-launcher-db-abcde"))], *ips).vpc == "two"
    assert find(make_service(), [make_slice(("10.0.1.5", True, "virt-launcher-web-abcde"))], *ips).vpc == "one"
    assert find(make_service(), [make_slice(("10.0.1.5", True, ""))], *ips).vpc is None


def test_endpoints_in_two_vpcs_are_refused() -> None:
    slices = [make_slice(("10.0.1.5", True, "p"), ("10.0.9.5", True, "p"))]
    found = find(make_service(), slices, make_ip("m1", "10.0.1.5"), make_ip("m2", "10.0.9.5", "z"))
    assert found.vpc is None
    assert found.problem is not None
    assert found.problem[0] == "SeveralVpcs"
    assert "2 Vpcs (one, two)" in found.problem[1]


def test_endpoints_that_are_no_machines_are_said() -> None:
    found = find(make_service(), [make_slice(("10.9.9.9", True, "nginx"))])
    assert found.problem is not None
    assert (found.vpc, found.problem[0], "10.9.9.9" in found.problem[1]) == (None, "NotInVpc", True)
    empty = find(make_service(), [])
    assert empty.problem is not None
    assert empty.problem[0] == "NoEndpoints"
