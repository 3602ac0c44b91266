"""Where the traffic of a LoadBalancer Service goes: its endpoints, and the Vpc in which they live.

`kubeovn/` turns the answer into translation rules of a router, `loadbalancer/` says on the Service what is missing; both have to come
to the same answer, so it is computed here, purely, from Service, EndpointSlices and IP objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import DEFAULT_VPC

__all__ = [
    "CONTROL_PLANE_LABEL",
    "DEFAULT_VPC",
    "NO_ENDPOINTS",
    "SERVICE_OF_SLICE",
    "Backend",
    "Published",
    "ServicePort",
    "find_cloud_address",
    "is_control_plane_service",
    "is_load_balancer",
    "publish",
    "vpcs_of_subnets",
]


CONTROL_PLANE_LABEL = "kamaji.clastix.io/name"
SERVICE_OF_SLICE = "kubernetes.io/service-name"
NO_ENDPOINTS = "NoEndpoints"
LOAD_BALANCER_CLASS = "pilvi.dev/cloud"


@dataclass(frozen=True, order=True)
class Backend:
    """One endpoint: a machine's address and the port it listens on."""

    address: IPv4Address
    port: int


@dataclass(frozen=True, order=True)
class ServicePort:
    """One port of the cloud address and the ready endpoints behind it, ordered; no endpoints means connections are refused."""

    protocol: str
    port: int
    backends: tuple[Backend, ...]


@dataclass(frozen=True)
class Published:
    """A Service with a cloud address. `vpc` is None when no router can serve it; `problem` then says why, as (reason, message)."""

    key: Key
    address: IPv4Address
    ports: tuple[ServicePort, ...]
    sticky: bool
    vpc: str | None
    problem: tuple[str, str] | None


def is_load_balancer(service: JsonObject) -> bool:
    """Whether the Service asks this cloud for an address: type LoadBalancer, of our class or of none."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and (spec.get("loadBalancerClass") or LOAD_BALANCER_CLASS) == LOAD_BALANCER_CLASS


def is_control_plane_service(service: JsonObject) -> bool:
    """Whether the Service belongs to a TenantControlPlane, which has the address on its own interface and needs no translation."""
    metadata = service["metadata"]
    owners = metadata.get("ownerReferences") or ()
    return CONTROL_PLANE_LABEL in (metadata.get("labels") or {}) or any(owner.get("kind") == "TenantControlPlane" for owner in owners)


def find_cloud_address(service: JsonObject) -> IPv4Address | None:
    """The address in `status.loadBalancer`, which is the record of the allocation; None when there is none yet."""
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    for item in ingress:
        try:
            return IPv4Address(item.get("ip") or "")
        except AddressValueError:
            continue
    return None


def vpcs_of_subnets(subnets: Iterable[JsonObject]) -> dict[str, str]:
    """The Vpc of each Subnet, both by name."""
    return {subnet["metadata"]["name"]: (subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC for subnet in subnets}


def publish(service: JsonObject, slices: Iterable[JsonObject], ips: Iterable[JsonObject], vpcs: Mapping[str, str]) -> Published | None:
    """What the routers have to know of `service`, or None when it is not theirs: another type, no address yet, a control plane's.

    `slices` are the Service's EndpointSlices, `ips` the IP objects of its namespace, `vpcs` the Vpc of each Subnet by name. An
    endpoint is a machine when an IP object of the namespace has its address; where two Vpcs have the same address, the name of the
    endpoint's Pod (`virt-launcher-<machine>-…`) decides.
    """
    address = find_cloud_address(service)
    if address is None or not is_load_balancer(service) or is_control_plane_service(service):
        return None
    machines: dict[str, list[JsonObject]] = {}
    for ip in ips:
        if text := (ip.get("spec") or {}).get("v4IpAddress"):
            machines.setdefault(text, []).append(ip)
    found: set[str] = set()
    strangers: list[str] = []
    ports: dict[tuple[str, int], set[Backend]] = {
        (port.get("protocol") or "TCP", port["port"]): set() for port in (service["spec"].get("ports") or ())
    }
    names = {port.get("name") or "": (port.get("protocol") or "TCP", port["port"]) for port in (service["spec"].get("ports") or ())}
    for slice_ in sorted(slices, key=lambda item: item["metadata"]["name"]):
        if slice_.get("addressType") != "IPv4":
            continue
        for endpoint in slice_.get("endpoints") or ():
            where = _find_vpc(endpoint, machines, vpcs)
            text = (endpoint.get("addresses") or [""])[0]
            if where is None:
                strangers.append(text)
                continue
            found.add(where)
            # An unset condition counts as ready (discovery.k8s.io/v1).
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for port in slice_.get("ports") or ():
                target = names.get(port.get("name") or "")
                if target is not None and port.get("port"):
                    ports[target].add(Backend(IPv4Address(text), port["port"]))
    vpc, problem = _choose(found, strangers)
    return Published(
        key=Key.of(service),
        address=address,
        ports=tuple(sorted(ServicePort(protocol, port, tuple(sorted(backends))) for (protocol, port), backends in ports.items())),
        sticky=service["spec"].get("sessionAffinity") == "ClientIP",
        vpc=vpc,
        problem=problem,
    )


def _choose(found: set[str], strangers: list[str]) -> tuple[str | None, tuple[str, str] | None]:
    if len(found) > 1:
        return None, (
            "SeveralVpcs",
            f"the endpoints are in {len(found)} Vpcs ({', '.join(sorted(found))}), but an address can lead into one only; "
            "make a Service with its own selector for each Vpc",
        )
    if found:
        return next(iter(found)), None
    if strangers:
        return None, (
            "NotInVpc",
            f"endpoint {strangers[0]} is not a machine of this namespace, so there is no Vpc to send its traffic to; "
            "select the Pods of virtual machines",
        )
    return None, (NO_ENDPOINTS, "no machine matches the selector yet")


def _find_vpc(endpoint: JsonObject, machines: Mapping[str, list[JsonObject]], vpcs: Mapping[str, str]) -> str | None:
    candidates = machines.get((endpoint.get("addresses") or [""])[0]) or []
    if len(candidates) > 1:
        pod = (endpoint.get("targetRef") or {}).get("name") or ""
        candidates = [ip for ip in candidates if pod.startswith(f"virt-launcher-{ip['spec'].get('podName')}-")]
    found = {vpcs[ip["spec"]["subnet"]] for ip in candidates if ip["spec"].get("subnet") in vpcs}
    return next(iter(found)) if len(found) == 1 else None
