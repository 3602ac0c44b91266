"""Reconciles Services of type LoadBalancer: gives them cloud addresses and says where their traffic cannot go.

The status of the Services is the only record of what is taken. There is one worker and each allocation decides on a fresh list, so two
Services never get one address; a restarted engine finds every address where it was. How traffic gets from the address to a machine
is `kubeovn/`'s; a control plane has its address on its own interface.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet
from pilvi.providers.loadbalancer.allocation import Refusal, choose_cloud_address, find_request, held_addresses
from pilvi.providers.published import (
    NO_ENDPOINTS,
    SERVICE_OF_SLICE,
    Published,
    find_cloud_address,
    is_load_balancer,
    publish,
    vpcs_of_subnets,
)
from pilvi.runtime import (
    Controller,
    Done,
    Result,
    Waiting,
    Watch,
    any_change,
    condition,
    conditions_of,
    desire_changed,
    is_deleting,
    merge_conditions,
)

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["ALLOCATED", "REACHABLE", "LoadBalancerReconciler"]

ALLOCATED = "pilvi.dev/AddressAllocated"
"""Condition of a Service of type LoadBalancer: whether it has the address it asks for, and why not."""

REACHABLE = "pilvi.dev/EndpointsReachable"
"""Condition of a Service whose address leads to machines: whether it does."""


class LoadBalancerReconciler:
    """One reconcile for each Service."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        self._pool = platform.cloud.range
        informers = platform.informers
        self._services = informers.get(SERVICES)
        self._slices = informers.get(ENDPOINT_SLICES)
        self._ips = informers.get(IP.RESOURCE)
        self._subnets = informers.get(Subnet.RESOURCE)
        self._control_planes = informers.get(TenantControlPlane.RESOURCE)

    def controller(self) -> Controller:
        """The controller that runs it, with a single worker."""
        return Controller(
            "loadbalancer",
            SERVICES,
            self.reconcile,
            watches=[
                # An address that became free is what a Service without one waits for.
                Watch(SERVICES, lambda _: self._waiting()),
                Watch(TenantControlPlane.RESOURCE, lambda _: self._waiting(), lambda _old, _new: False),
                Watch(ENDPOINT_SLICES, _service_of_slice),
                Watch(IP.RESOURCE, self._services_of_ip),
                Watch(Subnet.RESOURCE, lambda _: self._with_address(), desire_changed),
            ],
            concurrency=1,
            predicate=any_change,
        )

    async def reconcile(self, key: Key) -> Result:
        """Give one Service its address, and say where it leads; one status write."""
        service = self._services.get(key)
        if service is None or is_deleting(service):
            return Done()
        if not is_load_balancer(service):
            await self._write(
                service, {"conditions": [entry for entry in conditions_of(service) if entry["type"] not in (ALLOCATED, REACHABLE)]}
            )
            return Done()
        refusal: Refusal | None = None
        ingress = (service.get("status") or {}).get("loadBalancer") or {}
        if not self._is_settled(service):
            # The fresh list holds the Service itself too, as it is now.
            services = await self._client.list(SERVICES)
            service = next((other for other in services if other["metadata"]["uid"] == service["metadata"]["uid"]), None)
            if service is None or not is_load_balancer(service):
                return Done()
            ingress = (service.get("status") or {}).get("loadBalancer") or {}
            choice = choose_cloud_address(service, services, self._pool, self._held())
            if isinstance(choice, Refusal):
                refusal = choice
                self._events.record(service, "Warning", "AllocationFailed", refusal.message)
            elif choice != find_cloud_address(service):
                ingress = {"ingress": [{"ip": str(choice), "ipMode": "VIP"}]}
                self._events.record(service, "Normal", "IPAllocated", f'Assigned IP ["{choice}"]')
        await self._write(service, {"loadBalancer": ingress, "conditions": self._conditions(service, ingress, refusal)})
        return Waiting("AllocationFailed", refusal.message) if refusal is not None else Done()

    def _is_settled(self, service: JsonObject) -> bool:
        """Whether the caches already show that the address stays; most runs end here without asking the server."""
        address = find_cloud_address(service)
        return address is not None and choose_cloud_address(service, self._services.list(), self._pool, self._held()) == address

    def _held(self) -> dict[IPv4Address, Key]:
        return held_addresses(self._control_planes.list())

    def _conditions(self, service: JsonObject, ingress: JsonObject, refusal: Refusal | None) -> list[JsonObject]:
        """The conditions of the Service; ours say whether it has its address, and whether that leads anywhere."""
        now = {**service, "status": {"loadBalancer": ingress}}
        told = ("AllocationFailed", refusal.message) if refusal is not None else ("Allocated", f"the address is {find_cloud_address(now)}")
        before = merge_conditions(conditions_of(service), [condition(ALLOCATED, refusal is None, *told)])
        found = self._publish(now)
        if found is None:
            return before
        words = found.problem or ("Routed", f"the address leads into Vpc {found.vpc}")
        conditions = merge_conditions(before, [condition(REACHABLE, found.problem is None, *words)])
        # A new Service has no endpoints for a moment; that is no news.
        if conditions != before and found.problem is not None and found.problem[0] != NO_ENDPOINTS:
            self._events.record(service, "Warning", *found.problem)
        return conditions

    def _publish(self, service: JsonObject) -> Published | None:
        key = Key.of(service)
        slices = [slice_ for slice_ in self._slices.list(key.namespace) if key in _service_of_slice(slice_)]
        ips = [ip for ip in self._ips.list() if _namespace_of_ip(ip) == key.namespace]
        return publish(service, slices, ips, vpcs_of_subnets(self._subnets.list()))

    async def _write(self, service: JsonObject, status: JsonObject) -> None:
        """Write what differs from the stored status. Conflict when the Service changed since: its type or request may be another then."""
        before = service.get("status") or {}
        if any((before.get(name) or type(value)()) != value for name, value in status.items()):
            guard = {"uid": service["metadata"]["uid"], "resourceVersion": service["metadata"]["resourceVersion"]}
            await self._client.patch(SERVICES, Key.of(service), {"metadata": guard, "status": status}, subresource="status")

    def _waiting(self) -> list[Key]:
        """Services that should have an address and have none, or not the one they ask for."""
        return [Key.of(service) for service in self._services.list() if is_load_balancer(service) and _lacks(service)]

    def _with_address(self) -> list[Key]:
        return [Key.of(service) for service in self._services.list() if is_load_balancer(service)]

    def _services_of_ip(self, ip: JsonObject) -> Iterable[Key]:
        namespace = _namespace_of_ip(ip)
        return [key for key in self._with_address() if key.namespace == namespace]


def _lacks(service: JsonObject) -> bool:
    address, request = find_cloud_address(service), find_request(service)
    return address is None or (request is not None and request != str(address))


def _service_of_slice(slice_: JsonObject) -> list[Key]:
    metadata = slice_["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_OF_SLICE)
    return [Key(metadata.get("namespace") or "", name)] if name else []


def _namespace_of_ip(ip: JsonObject) -> str:
    return (ip.get("spec") or {}).get("namespace") or ""
