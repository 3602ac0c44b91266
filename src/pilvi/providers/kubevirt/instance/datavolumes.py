"""The condition DataVolumesReady of an instance: how it stands with the DataVolumes that its volumes name. Pure.

Reasons and the order of what counts are KubeVirt's (pkg/virt-controller/watch/vmi); the message names what is awaited.
"""

from __future__ import annotations

from collections.abc import Callable

from pilvi.api.resource import JsonObject, Key
from pilvi.runtime.conditions import condition, find_condition

__all__ = ["plan_data_volumes"]


def plan_data_volumes(vmi: JsonObject, find: Callable[[Key], JsonObject | None]) -> JsonObject | None:
    """The condition; None for an instance whose volumes name no DataVolume that exists."""
    named = [volume["dataVolume"]["name"] for volume in vmi["spec"].get("volumes") or [] if volume.get("dataVolume")]
    found = [made for name in named if (made := find(Key(vmi["metadata"]["namespace"], name))) is not None]
    if not found:
        return None
    states = {made["metadata"]["name"]: find_condition(made, "Ready") or {} for made in found}
    waiting = {name: ready for name, ready in states.items() if ready.get("status") != "True"}
    if not waiting:
        return condition("DataVolumesReady", True, "AllDVsReady", "all DataVolumes of the machine are whole")
    failed = any(ready.get("status") == "False" for ready in waiting.values())
    words = "; ".join(f"DataVolume {name}: {ready.get('message') or 'not looked at yet'}" for name, ready in waiting.items())
    return condition("DataVolumesReady", False if failed else "Unknown", "NotAllDVsReady", words)
