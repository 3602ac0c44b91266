"""Services of type LoadBalancer on a small API server."""

from __future__ import annotations

from typing import Any

from pilvi.api import JsonObject
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet
from pilvi.providers import loadbalancer
from pilvi.providers.loadbalancer.controller import ALLOCATED, REACHABLE
from tests.fake_api import FakeApi, status_response
from tests.unit.providers.kubeovn.objects import make_ip, make_service, make_slice, make_subnet
from tests.unit.providers.kubeovn.running import events_of, find, put, quiet, remove, running, wait_for

make = loadbalancer.controllers


def address(api: FakeApi, name: str = "web") -> str | None:
    service = find(api, SERVICES, name, "team") or {}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return ingress[0]["ip"] if ingress else None


def allocated(api: FakeApi, name: str) -> JsonObject:
    return next(entry for entry in (find(api, SERVICES, name, "team") or {})["status"]["conditions"] if entry["type"] == ALLOCATED)


def reachable(api: FakeApi) -> JsonObject:
    service = find(api, SERVICES, "web", "team") or {}
    return next((entry for entry in service["status"].get("conditions") or [] if entry["type"] == REACHABLE), {})


async def test_an_address_is_given_and_kept_over_restarts(fake_api: FakeApi) -> None:
    for name in ("a", "b"):
        put(fake_api, SERVICES, make_service(name, None))
    async with running(fake_api, make):
        await wait_for("addresses", lambda: address(fake_api, "a") and address(fake_api, "b"))
    before = [address(fake_api, name) for name in ("a", "b")]
    assert sorted(filter(None, before)) == ["10.250.0.3", "10.250.0.4"]
    assert find(fake_api, SERVICES, "a", "team")["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP"  # type: ignore[index]
    seen = len(fake_api.requests)
    async with running(fake_api, make):
        await quiet(fake_api)
    assert [address(fake_api, name) for name in ("a", "b")] == before
    assert [request for request in fake_api.requests[seen:] if request[0] != "GET"] == []


async def test_a_freed_address_goes_to_who_waits_for_it(fake_api: FakeApi) -> None:
    put(fake_api, SERVICES, make_service("old", "10.250.0.9"))
    put(fake_api, SERVICES, make_service("new", None, loadBalancerIP="10.250.0.9"))
    async with running(fake_api, make):
        await wait_for("event", lambda: "AllocationFailed" in events_of(fake_api))
        assert address(fake_api, "new") is None
        refused = allocated(fake_api, "new")
        assert (refused["status"], refused["reason"]) == ("False", "AllocationFailed")
        assert '"10.250.0.9" is in use by "team/old"' in refused["message"]
        assert allocated(fake_api, "old")["status"] == "True"
        remove(fake_api, SERVICES, "old", "team")
        await wait_for("address", lambda: address(fake_api, "new") == "10.250.0.9")
        await wait_for("condition", lambda: allocated(fake_api, "new")["status"] == "True")


async def test_an_address_is_held_until_its_control_plane_has_ended(fake_api: FakeApi) -> None:
    """A namespace that ends takes the Service away before the control plane, which still has the address on its link."""
    plane = {"metadata": {"name": "first", "namespace": "team"}, "spec": {}, "status": {"controlPlaneEndpoint": "10.250.0.3:6443"}}
    put(fake_api, TenantControlPlane.RESOURCE, plane)
    put(fake_api, SERVICES, make_service("other", None))
    put(fake_api, SERVICES, make_service("asks", None, loadBalancerIP="10.250.0.3"))
    async with running(fake_api, make):
        await wait_for("address", lambda: address(fake_api, "other") == "10.250.0.4" and "AllocationFailed" in events_of(fake_api))
        assert address(fake_api, "asks") is None
        remove(fake_api, TenantControlPlane.RESOURCE, "first", "team")
        await wait_for("address", lambda: address(fake_api, "asks") == "10.250.0.3")


async def test_a_control_plane_gets_its_own_address_back(fake_api: FakeApi) -> None:
    plane = {"metadata": {"name": "first", "namespace": "team"}, "spec": {}, "status": {"controlPlaneEndpoint": "10.250.0.7:6443"}}
    put(fake_api, TenantControlPlane.RESOURCE, plane)
    put(fake_api, SERVICES, make_service("first", None, loadBalancerIP="10.250.0.7"))
    async with running(fake_api, make):
        await wait_for("address", lambda: address(fake_api, "first") == "10.250.0.7")


async def test_a_service_of_another_class_or_type_is_left_alone(fake_api: FakeApi) -> None:
    put(fake_api, SERVICES, make_service("foreign", None, loadBalancerClass="example.com/other"))
    put(fake_api, SERVICES, make_service("plain", None, type="ClusterIP"))
    put(fake_api, SERVICES, make_service("ours", None, loadBalancerClass="pilvi.dev/cloud"))
    async with running(fake_api, make):
        await wait_for("address", lambda: address(fake_api, "ours"))
        await quiet(fake_api)
    assert (address(fake_api, "foreign"), address(fake_api, "plain")) == (None, None)


async def test_many_at_once_with_a_cache_that_lags(fake_api: FakeApi) -> None:
    async with running(fake_api, make):
        await quiet(fake_api)
        fake_api.hold_events = True
        for number in range(20):
            put(fake_api, SERVICES, make_service(f"s{number}", None))
        fake_api.release()
        await wait_for("addresses", lambda: all(address(fake_api, f"s{number}") for number in range(20)))
    assert len({address(fake_api, f"s{number}") for number in range(20)}) == 20


async def test_a_write_in_between_is_not_overwritten(fake_api: FakeApi) -> None:
    """Between the list and the write another Service gets the address: the write is a Conflict, and the choice is made anew."""
    put(fake_api, SERVICES, make_service("web", None))

    def steal(request: Any) -> Any:
        if request.method == "PATCH":
            fake_api.faults.remove(steal)
            put(fake_api, SERVICES, make_service("thief", "10.250.0.3", created="2025-01-01T00:00:00Z"))
            return status_response(409, "Conflict")
        return None

    fake_api.faults.append(steal)
    async with running(fake_api, make):
        await wait_for("address", lambda: address(fake_api))
    assert address(fake_api) == "10.250.0.4"


async def test_the_condition_follows_the_endpoints(fake_api: FakeApi) -> None:
    put(fake_api, Subnet.RESOURCE, make_subnet("a"))
    put(fake_api, SERVICES, make_service("web", None))
    async with running(fake_api, make):
        await wait_for("no endpoints", lambda: address(fake_api) and reachable(fake_api).get("reason") == "NoEndpoints")
        put(fake_api, ENDPOINT_SLICES, make_slice(("10.0.1.5", True, "virt-launcher-m1-x")))
        await wait_for("stranger", lambda: reachable(fake_api)["reason"] == "NotInVpc")
        await wait_for("event", lambda: "NotInVpc" in events_of(fake_api))
        put(fake_api, IP.RESOURCE, make_ip("m1", "10.0.1.5"))
        await wait_for("route", lambda: reachable(fake_api)["status"] == "True")
        # No longer a load balancer: nothing of ours stays (the API server itself clears the address).
        service = find(fake_api, SERVICES, "web", "team")
        assert service is not None
        put(fake_api, SERVICES, {**service, "spec": {**service["spec"], "type": "ClusterIP"}})
        await wait_for("condition gone", lambda: reachable(fake_api) == {})
    assert "NoEndpoints" not in events_of(fake_api)


async def test_a_control_plane_has_an_address_and_no_condition(fake_api: FakeApi) -> None:
    put(fake_api, SERVICES, make_service("web", None, labels={"kamaji.clastix.io/name": "web"}))
    async with running(fake_api, make):
        await wait_for("address", lambda: address(fake_api))
        await quiet(fake_api)
    assert reachable(fake_api) == {}
