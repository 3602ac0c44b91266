"""What a preference asks of a machine, and what is missing. Pure. The words are KubeVirt's."""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.lib.quantity import parse_quantity
from pilvi.providers.kubevirt.instancetype.topology import preferred_topology, spread_across
from pilvi.providers.sizing import Size, find_size

__all__ = ["find_shortfall"]

ARCHITECTURE = "amd64"
_SPREAD = {
    "SocketsCores": ("sockets", "cores"),
    "CoresThreads": ("cores", "threads"),
    "SocketsCoresThreads": ("sockets", "cores", "threads"),
}


def find_shortfall(instancetype: JsonObject | None, preference: JsonObject, spec: JsonObject) -> str | None:
    """Why a machine with `spec`, the whole specification, is not what the preference requires; None when it is."""
    required = preference.get("requirements") or {}
    return (
        _find_cpu_shortfall(required.get("cpu") or {}, instancetype, preference, spec)
        or _find_memory_shortfall(required.get("memory") or {}, instancetype, spec)
        or _find_other_architecture(required.get("architecture"), spec)
    )


def _find_cpu_shortfall(required: JsonObject, instancetype: JsonObject | None, preference: JsonObject, spec: JsonObject) -> str | None:
    wanted = int(required.get("guest") or 0)
    if instancetype is not None:
        given = int(instancetype["cpu"]["guest"])
        if given >= wanted:
            return None
        return f"insufficient CPU resources of {given} vCPU provided by instance type, preference requires {wanted} vCPU"
    size = find_size(spec)
    if not wanted or size is None:
        return None
    counted = _counted(preference)
    given = _count(size, counted)
    if given >= wanted:
        return None
    return (
        f"insufficient CPU resources of {given} vCPU provided by VirtualMachine, preference requires {wanted} vCPU"
        f" provided as {' and '.join(counted)}"
    )


def _counted(preference: JsonObject) -> tuple[str, ...]:
    topology = preferred_topology(preference)
    if topology == "spread":
        return _SPREAD.get(spread_across(preference), _SPREAD["SocketsCores"])
    return ("cores", "sockets", "threads") if topology == "any" else (topology,)


def _count(size: Size, counted: tuple[str, ...]) -> int:
    product = 1
    for name in counted:
        product *= int(getattr(size, name))
    return product


def _find_memory_shortfall(required: JsonObject, instancetype: JsonObject | None, spec: JsonObject) -> str | None:
    wanted = required.get("guest")
    if wanted is None:
        return None
    given = ((spec["domain"].get("memory")) or {}).get("guest") or (instancetype or {"memory": {"guest": "0"}})["memory"]["guest"]
    if parse_quantity(given) >= parse_quantity(wanted):
        return None
    provider = "instance type" if instancetype is not None else "VirtualMachine"
    return f"insufficient Memory resources of {given} provided by {provider}, preference requires {wanted}"


def _find_other_architecture(wanted: str | None, spec: JsonObject) -> str | None:
    given = spec.get("architecture") or ARCHITECTURE
    return f"preference requires architecture {wanted} but {given} is being requested" if wanted and wanted != given else None
