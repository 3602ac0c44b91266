"""Which Vpcs a change of another object concerns: functions for the controller's watches, pure but for reading the caches."""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.providers.kubeovn.objects import Objects, service_of_slice, subnet_of_ip, vpc_of_subnet
from pilvi.providers.kubeovn.vpc.router import vpc_of_control_plane
from pilvi.providers.published import is_load_balancer
from pilvi.runtime import Watch, conditions_changed, desire_changed

__all__ = ["vpc_watches"]


def vpc_watches(objects: Objects) -> list[Watch]:
    """All kinds that a router is made from."""
    return [
        # Every IP object changes a Subnet's status; only its desire matters here.
        Watch(Subnet.RESOURCE, lambda subnet: [Key("", vpc_of_subnet(subnet))], desire_changed),
        Watch(IP.RESOURCE, lambda ip: _of_subnets(objects, [subnet_of_ip(ip)])),
        # A machine that starts anew has another port, and a condition says whether it asks for its address.
        Watch(VirtualMachineInstance.RESOURCE, lambda instance: _of_instance(objects, instance), conditions_changed),
        Watch(TenantControlPlane.RESOURCE, lambda control_plane: [Key("", vpc_of_control_plane(control_plane))]),
        Watch(SERVICES, lambda service: _of_service(objects, service)),
        Watch(ENDPOINT_SLICES, lambda slice_: _of_slice(objects, slice_)),
    ]


def _of_instance(objects: Objects, instance: JsonObject) -> Iterable[Key]:
    return _of_subnets(objects, [subnet_of_ip(ip) for ip in objects.ips.by_index("machine", Key.of(instance))])


def _of_service(objects: Objects, service: JsonObject) -> Iterable[Key]:
    key = Key.of(service)
    control_plane = objects.control_planes.get(key)
    found = {Key("", vpc_of_control_plane(control_plane))} if control_plane is not None else set()
    for slice_ in objects.slices.by_index("service", key):
        found.update(_of_endpoints(objects, slice_))
    return found


def _of_slice(objects: Objects, slice_: JsonObject) -> Iterable[Key]:
    service = objects.services.get(service_of_slice(slice_))
    return _of_endpoints(objects, slice_) if service is not None and is_load_balancer(service) else ()


def _of_endpoints(objects: Objects, slice_: JsonObject) -> Iterable[Key]:
    namespace = slice_["metadata"].get("namespace") or ""
    addresses = {address for endpoint in slice_.get("endpoints") or () for address in endpoint.get("addresses") or ()}
    ips = objects.ips.by_index("namespace", namespace)
    return _of_subnets(objects, [subnet_of_ip(ip) for ip in ips if (ip.get("spec") or {}).get("v4IpAddress") in addresses])


def _of_subnets(objects: Objects, names: Iterable[str]) -> set[Key]:
    found = (objects.subnets.get(Key("", name)) for name in names)
    return {Key("", vpc_of_subnet(subnet)) for subnet in found if subnet is not None}
