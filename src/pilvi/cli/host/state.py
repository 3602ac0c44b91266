"""Virtual hosts as the commands see them: read from the API, put into words. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pilvi.api import JsonObject

__all__ = ["FAILED", "HostRow", "is_ready", "row_of"]

FAILED = "pilvi.dev/failed"
"""The annotation on a Node by which the engine knows that the host plays dead (providers/kubevirt/virtualhost)."""
_ENDED = ("Succeeded", "Failed")


class HostRow(msgspec.Struct, frozen=True):
    """One line of `pilvi host list`. `machines` are those that run there."""

    name: str
    status: str
    machines: int
    cpu: str
    memory: str


def row_of(node: JsonObject, instances: Iterable[JsonObject]) -> HostRow:
    """What a table says of the host."""
    name = node["metadata"]["name"]
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    statuses = [vmi.get("status") or {} for vmi in instances]
    machines = sum(status.get("nodeName") == name and status.get("phase") not in _ENDED for status in statuses)
    return HostRow(name, _status(node), machines, allocatable.get("cpu", ""), allocatable.get("memory", ""))


def is_ready(node: JsonObject) -> bool:
    """Whether the host's engine answers for it."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _status(node: JsonObject) -> str:
    if FAILED in (node["metadata"].get("annotations") or {}):
        return "Failed"
    cordoned = ",SchedulingDisabled" if (node.get("spec") or {}).get("unschedulable") else ""
    return ("Ready" if is_ready(node) else "NotReady") + cordoned
