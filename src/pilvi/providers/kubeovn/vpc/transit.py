"""The outer addresses of VPC routers: one for each Vpc, from the cloud's transit pool, recorded as an annotation before it is used.

The annotations of all Vpcs are the only record. An engine that dies after the write finds the address again; one that dies before
has used nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.lib.allocate import find_free_address
from pilvi.providers.kubeovn.names import TRANSIT

__all__ = ["choose_transit", "find_own_transit", "find_transit"]


def find_transit(vpc: JsonObject, pool: IPv4Network) -> IPv4Address | None:
    """The recorded address; None when there is none or it cannot be one of ours."""
    text = (vpc["metadata"].get("annotations") or {}).get(TRANSIT) or ""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return None
    usable = address in pool and address not in (pool.network_address, pool.broadcast_address, pool[1])
    return address if usable else None


def find_own_transit(vpc: JsonObject, vpcs: Iterable[JsonObject], pool: IPv4Network) -> IPv4Address | None:
    """The recorded address, unless an older one of `vpcs` has recorded the same: then somebody copied the annotation."""
    recorded = find_transit(vpc, pool)
    copied = recorded is not None and any(_age(other) < _age(vpc) for other in vpcs if find_transit(other, pool) == recorded)
    return None if copied else recorded


def choose_transit(vpc: JsonObject, vpcs: Iterable[JsonObject], pool: IPv4Network) -> IPv4Address:
    """The address that `vpc` is to have, given all Vpcs as the API server has them now.

    An address of its own is kept; who has copied one gets another. Raises UserError when the pool is used up.
    """
    others = [other for other in vpcs if other["metadata"]["uid"] != vpc["metadata"]["uid"]]
    recorded = find_own_transit(vpc, others, pool)
    if recorded is not None:
        return recorded
    used = {pool[1], *(address for other in others if (address := find_transit(other, pool)) is not None)}
    free = find_free_address(pool, used)
    if free is None:
        raise UserError(f"transit pool {pool} has no free address for Vpc {vpc['metadata']['name']}", hint="delete a Vpc that nobody uses")
    return free


def _age(vpc: JsonObject) -> tuple[str, str]:
    return vpc["metadata"].get("creationTimestamp") or "", vpc["metadata"]["name"]
