"""Which cloud address a Service gets. Pure: the statuses of all Services are the record of what is taken.

Fields, annotations, and the words of events as in MetalLB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from pilvi.api import JsonObject, Key
from pilvi.lib.allocate import find_free_address
from pilvi.providers.published import find_cloud_address, is_load_balancer

__all__ = ["ADDRESS_ANNOTATIONS", "Refusal", "choose_cloud_address", "find_request", "held_addresses"]

ADDRESS_ANNOTATIONS = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")

# Of the range: its own name, the host, the platform's API server.
_RESERVED = 3


@dataclass(frozen=True)
class Refusal:
    """Why a Service gets no address, or not the one it asks for."""

    message: str


def find_request(service: JsonObject) -> str | None:
    """The address that a Service asks for, as it is written; None when any will do."""
    annotations = service["metadata"].get("annotations") or {}
    for name in ADDRESS_ANNOTATIONS:
        if annotations.get(name):
            return str(annotations[name])
    return (service.get("spec") or {}).get("loadBalancerIP") or None


def held_addresses(control_planes: Iterable[JsonObject]) -> dict[IPv4Address, Key]:
    """Addresses of control planes that still run: their Service may be deleted before them, with a namespace or by hand."""
    endpoints = ((Key.of(obj), (obj.get("status") or {}).get("controlPlaneEndpoint") or "") for obj in control_planes)
    return {address: key for key, endpoint in endpoints if (address := _find_address(endpoint)) is not None}


def choose_cloud_address(
    service: JsonObject, services: Iterable[JsonObject], pool: IPv4Network, held: Mapping[IPv4Address, Key] | None = None
) -> IPv4Address | Refusal:
    """The address of `service`, given all Services as the API server has them now.

    The one it has is kept, unless it asks for another or an older Service has the same. Otherwise the one it asks for, else the
    lowest that is free. The first addresses of `pool` are never given. `held` are addresses that are in use on the host although no
    Service may record them any more, with the key of the one Service that may have each.
    """
    key = Key.of(service)
    taken = {address: holder for address, holder in (held or {}).items() if holder != key}
    taken |= _taken_by_others(service, services)
    recorded = find_cloud_address(service)
    if recorded is not None and (not _is_usable(recorded, pool) or recorded in taken):
        recorded = None
    request = find_request(service)
    if request is None:
        free = recorded or find_free_address(pool, taken, first=pool[_RESERVED])
        return free or Refusal(f'Failed to allocate IP for "{key}": no available IPs in {pool}; delete a Service of type LoadBalancer')
    try:
        wanted = IPv4Address(request.strip())
    except ValueError:
        return Refusal(f'Failed to allocate IP for "{key}": invalid IP {request!r}; ask for one IPv4 address of {pool}')
    if not _is_usable(wanted, pool):
        return Refusal(
            f'Failed to allocate IP for "{key}": "{wanted}" is not allowed in config; ask for one of {pool[_RESERVED]} to {pool[-2]}'
        )
    if wanted in taken:
        return Refusal(f'Failed to allocate IP for "{key}": "{wanted}" is in use by "{taken[wanted]}"; ask for another')
    return wanted


def _find_address(endpoint: str) -> IPv4Address | None:
    """The address of an endpoint `address:port`; None when it has a name instead, or none at all."""
    try:
        return IPv4Address(endpoint.partition(":")[0])
    except AddressValueError:
        return None


def _is_usable(address: IPv4Address, pool: IPv4Network) -> bool:
    return pool[_RESERVED] <= address <= pool[-2]


def _taken_by_others(service: JsonObject, services: Iterable[JsonObject]) -> dict[IPv4Address, Key]:
    recorded = find_cloud_address(service)
    taken: dict[IPv4Address, Key] = {}
    for other in services:
        address = find_cloud_address(other)
        if address is None or not is_load_balancer(other) or other["metadata"]["uid"] == service["metadata"]["uid"]:
            continue
        if address == recorded and _age(service) < _age(other):
            continue  # the younger of two gives way
        taken[address] = Key.of(other)
    return taken


def _age(service: JsonObject) -> tuple[str, str, str]:
    metadata = service["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("namespace") or "", metadata["name"]
