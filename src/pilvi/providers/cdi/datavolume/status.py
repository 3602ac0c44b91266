"""The status of a DataVolume, from its claim. Pure."""

from __future__ import annotations

from datetime import datetime

from pilvi.api import JsonObject
from pilvi.api.cdi import DataVolumeSpec
from pilvi.providers.cdi.conditions import with_conditions
from pilvi.providers.cdi.kinds import PHASE, PROGRESS, RESTARTS, RUNNING, RUNNING_MESSAGE, RUNNING_REASON
from pilvi.providers.cdi.sources import Missing, find_disk_reference
from pilvi.providers.claims import VOLUME, annotations_of, is_populated, needs_population
from pilvi.runtime import condition

__all__ = ["WAYS", "phase_of", "plan_status", "way_of"]

WAYS = {
    "import": ("ImportScheduled", "ImportInProgress", "ImportSucceeded", "ImportFailed"),
    "clone": ("CloneScheduled", "CloneInProgress", "CloneSucceeded", "CloneFailed"),
    "upload": ("UploadScheduled", "UploadReady", "UploadSucceeded", "UploadFailed"),
}
"""By how the data come: two phases, and the Events of success and failure."""


def way_of(spec: DataVolumeSpec) -> str:
    """How the data come: import, clone or upload."""
    if spec.source is not None and spec.source.upload is not None:
        return "upload"
    return "clone" if find_disk_reference(spec, "") is not None else "import"


def phase_of(claim: JsonObject | None, *, way: str, first_consumer: bool) -> str:
    """How far it is. `first_consumer`: the class waits for a Pod that uses the claim."""
    if claim is None:
        return "Pending"
    held, bound = annotations_of(claim), (claim.get("status") or {}).get("phase")
    if bound == "Lost" or held.get(PHASE) == "Failed":
        return "Failed"
    if bound == "Bound" and is_populated(claim):
        return "Succeeded"
    if needs_population(claim) and is_populated(claim):
        return "RebindInProgress"
    if VOLUME not in held:
        return "WaitForFirstConsumer" if first_consumer else "Pending"
    scheduled, moving, _, _ = WAYS[way]
    return moving if held.get(PHASE) == "Running" else scheduled


def plan_status(
    data_volume: JsonObject, claim: JsonObject | None, phase: str, problem: Missing | None, now: datetime | None = None
) -> JsonObject:
    """The status. `problem` is why there is no claim."""
    name = data_volume["metadata"]["name"]
    held = annotations_of(claim) if claim is not None else {}
    running = condition(
        "Running", held.get(RUNNING) == "true", held.get(RUNNING_REASON) or phase, held.get(RUNNING_MESSAGE) or _WORDS.get(phase, "")
    )
    if problem is not None:
        bound = condition("Bound", "Unknown", problem.reason, problem.message)
        ready = condition("Ready", False, problem.reason, problem.message)
    else:
        state = (claim.get("status") or {}).get("phase") or "Pending" if claim is not None else "NotFound"
        bound = condition("Bound", state == "Bound", state, f"PVC {name} {state}")
        ready = condition("Ready", phase == "Succeeded", phase if phase == "Succeeded" else running["reason"], running["message"])
    conditions = with_conditions(data_volume, (bound, ready, running), now)
    restarts = held.get(RESTARTS, "0")
    status: JsonObject = {
        "phase": phase,
        "progress": "100.0%" if phase == "Succeeded" else held.get(PROGRESS, "N/A"),
        "restartCount": int(restarts) if restarts.isascii() and restarts.isdigit() else 0,
        "conditions": conditions,
    }
    if claim is not None:
        status["claimName"] = name
    return status


_WORDS = {
    "Pending": "the volume is awaited",
    "WaitForFirstConsumer": "the storage class waits for a machine that uses the disk; start one, or set the annotation"
    " cdi.kubevirt.io/storage.bind.immediate.requested on the DataVolume",
    "RebindInProgress": "the data are whole, the volume is being bound",
    "Succeeded": "the data are whole",
}
