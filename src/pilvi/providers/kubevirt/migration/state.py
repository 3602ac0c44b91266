"""What the status of an instance says of its moves: which of its Pods counts, and how the last move went. Pure.

`status.migrationState` is KubeVirt's. It is also where these controllers find out, after a restart of the engine or another move, which
Pod stands for the machine: the target's of the last move that was completed, else the one that the machine was started with.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.instance.pod import launcher_name

__all__ = ["active_pod", "begun", "ended", "is_of", "is_under_way", "source_state", "stands_still", "with_target"]

# All that a move may have left in the state; what the next one does not say is taken away.
_FIELDS = (
    "abortRequested",
    "abortStatus",
    "completed",
    "endTimestamp",
    "failed",
    "failureReason",
    "migrationConfiguration",
    "migrationPolicyName",
    "mode",
    "targetNodeAddress",
    "targetNodeDomainDetected",
    "targetNodeDomainReadyTimestamp",
)


def active_pod(vmi: JsonObject) -> str:
    """The Pod that stands for the machine now."""
    state = _state(vmi)
    name = state.get("targetPod") if state.get("completed") and not state.get("failed") else state.get("sourcePod")
    return str(name or launcher_name(vmi))


def is_under_way(vmi: JsonObject) -> bool:
    """Whether the machine is being moved."""
    state = _state(vmi)
    return bool(state) and not state.get("completed")


def stands_still(vmi: JsonObject) -> bool:
    """Whether the last move is, or was, one with the guest paused."""
    return bool(_state(vmi).get("mode") == "Paused")


def is_of(vmi: JsonObject, migration: JsonObject) -> bool:
    """Whether the state is that of this migration."""
    return bool(_state(vmi).get("migrationUid") == migration["metadata"]["uid"])


def begun(
    vmi: JsonObject, migration: JsonObject, target: JsonObject, configuration: JsonObject, policy: str | None, now: datetime
) -> JsonObject:
    """The patch of the instance's status with which a move to the Pod `target` begins."""
    source_node, target_node = vmi["status"].get("nodeName"), target["spec"].get("nodeName")
    state: dict[str, Any] = dict.fromkeys(_FIELDS)
    state |= {
        "migrationUid": migration["metadata"]["uid"],
        "migrationConfiguration": configuration,
        "mode": "PreCopy",
        "sourceNode": source_node,
        "sourcePod": active_pod(vmi),
        "sourceState": source_state(vmi),
        "startTimestamp": format_time(now),
        "targetNode": target_node,
        "targetPod": target["metadata"]["name"],
    }
    if policy is not None:
        state["migrationPolicyName"] = policy
    return {
        "migrationState": state,
        "activePods": {target["metadata"]["uid"]: target_node},
    }


def source_state(vmi: JsonObject) -> JsonObject:
    """The side that the machine comes from: by its UID a migration stays with this run of it."""
    return {"virtualMachineInstanceUID": vmi["metadata"]["uid"], "node": vmi["status"].get("nodeName"), "pod": active_pod(vmi)}


def with_target(address: str, now: datetime) -> JsonObject:
    """The patch that says that the target waits for the guest."""
    return {
        "migrationState": {
            "targetNodeAddress": address,
            "targetNodeDomainDetected": True,
            "targetNodeDomainReadyTimestamp": format_time(now),
        }
    }


def ended(vmi: JsonObject, target: JsonObject | None, now: datetime, *, failure: str = "", aborted: bool = False) -> JsonObject:
    """The patch with which a move ends: well, or with why it did not."""
    state: dict[str, Any] = {"completed": True, "endTimestamp": format_time(now)}
    if failure:
        state |= {"failed": True, "failureReason": failure}
        if aborted:
            state |= {"abortRequested": True, "abortStatus": "Succeeded"}
        return {"migrationState": state}
    patch: JsonObject = {"migrationState": state}
    if target is not None:
        patch["nodeName"] = target["spec"].get("nodeName")
    if vmi["status"].get("evacuationNodeName"):
        patch["evacuationNodeName"] = None
    return patch


def _state(vmi: JsonObject) -> JsonObject:
    return (vmi.get("status") or {}).get("migrationState") or {}
