"""How far a machine can grow while it runs, when nobody says: KubeVirt's defaults (pkg/defaults, pkg/liveupdate/memory). Pure.

Processors that are not there cost a Linux guest some hundred kilobytes each. Room for memory makes it reserve 64 MiB (swiotlb, seen in
Debian's), so machines below 1 GiB get none unless they ask by `maxGuest`, as in KubeVirt.
"""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.lib.quantity import format_bytes, quantity_bytes
from pilvi.providers.sizing import find_size

__all__ = ["MEMORY_BLOCK", "give_headroom"]

MEMORY_BLOCK = 2 << 20
"""Memory that comes while a machine runs comes in multiples of this."""
_RATIO = 4
_MAX_VCPUS = 512
_LEAST_MEMORY = 1 << 30


def give_headroom(spec: JsonObject) -> JsonObject:
    """An instance's specification with `domain.cpu.maxSockets` and `domain.memory.maxGuest`, where they are missing and can be."""
    size = find_size(spec)
    if size is None:
        return spec
    domain = dict(spec["domain"])
    cpu, memory = domain.get("cpu") or {}, domain.get("memory") or {}
    if not cpu.get("maxSockets"):
        most = max(size.sockets, min(size.sockets * _RATIO, _MAX_VCPUS // (size.cores * size.threads)))
        domain["cpu"] = {**cpu, "maxSockets": most}
    if not memory.get("maxGuest") and _can_grow(domain, memory):
        domain["memory"] = {**memory, "maxGuest": format_bytes(size.memory_bytes * _RATIO)}
    return {**spec, "domain": domain}


def _can_grow(domain: JsonObject, memory: JsonObject) -> bool:
    limits = (domain.get("resources") or {}).get("limits") or {}
    if not memory.get("guest") or memory.get("hugepages") or limits.get("memory"):  # a machine with a limit does not grow beyond it
        return False
    guest = quantity_bytes(memory["guest"])
    return guest >= _LEAST_MEMORY and guest % MEMORY_BLOCK == 0
