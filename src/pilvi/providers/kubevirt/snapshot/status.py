"""What a VirtualMachineSnapshot and its content say. Pure. Phases, conditions and their words are KubeVirt's (pkg/storage/snapshot)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.snapshot.volumes import volumes_of
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["DEADLINE", "NOT_LOCKED", "NO_SOURCE", "WORKING", "Progress", "content_status", "error_of", "snapshot_status"]

NO_SOURCE = "Source does not exist"
NOT_LOCKED = "Source not locked"
WORKING = "Source locked and operation in progress"
DEADLINE = "snapshot deadline exceeded"

_INDICATIONS = {
    "Online": "The machine was running.",
    "GuestAgent": "The guest's agent held its file systems still while all volumes were copied: they are whole, and show one moment.",
    "NoGuestAgent": "No guest agent answered: each volume shows what a power cut at that moment would have left.",
    "Paused": "The machine was paused: all volumes show that moment, as a power cut would have left them.",
    "PartialSnapshot": "Volumes of the machine that are on other storage are not in the snapshot.",
}


@dataclass(frozen=True)
class Progress:
    """How far a snapshot that is being made is: the reason of its condition, what is awaited, and whether that is an error."""

    reason: str
    message: str
    working: bool = True
    is_error: bool = False


def snapshot_status(
    snapshot: JsonObject,
    *,
    vm: JsonObject | None,
    content: JsonObject | None,
    progress: Progress,
    indications: Sequence[str] = (),
    failed: bool = False,
) -> JsonObject:
    """The whole status. `indications` say how the machine is that is being copied; `failed` that there was not time enough."""
    old = snapshot.get("status") or {}
    told = (content or {}).get("status") or {}
    status: JsonObject = {"readyToUse": bool(told.get("readyToUse"))}
    if uid := old.get("sourceUID") or (vm or {}).get("metadata", {}).get("uid"):
        status["sourceUID"] = uid
    if content is not None:
        status["virtualMachineSnapshotContentName"] = content["metadata"]["name"]
    elif name := old.get("virtualMachineSnapshotContentName"):
        status["virtualMachineSnapshotContentName"] = name
    if moment := told.get("creationTime") or old.get("creationTime"):
        status["creationTime"] = moment
    if error := told.get("error"):
        status["error"] = error
    elif progress.is_error:
        status["error"] = error_of(snapshot, progress.message)
    if failed:
        status["phase"] = "Failed"
    elif moment:
        status["phase"] = "Succeeded"
    else:
        status["phase"] = "InProgress"
    noted = list(indications) or list(old.get("indications") or ())
    if content is not None and moment:
        status["snapshotVolumes"], partial = _volumes(content)
        noted += ["PartialSnapshot"] if partial and "PartialSnapshot" not in noted else []
    elif lists := old.get("snapshotVolumes"):
        status["snapshotVolumes"] = lists
    if noted:
        status["indications"] = noted
        status["sourceIndications"] = [{"indication": each, "message": _INDICATIONS[each]} for each in noted]
    status["conditions"] = merge_conditions(conditions_of(snapshot), _conditions(status, progress))
    return status


def _conditions(status: JsonObject, progress: Progress) -> Iterable[JsonObject]:
    ready = bool(status["readyToUse"])
    why = (status.get("error") or {}).get("message") or progress.message
    match status["phase"]:
        case "Failed":
            yield condition("Failure", True, DEADLINE, why)
            yield condition("Progressing", False, "Operation failed", why)
        case "Succeeded":
            yield condition("Progressing", False, "Operation complete")
        case _ if status.get("error"):
            yield condition("Progressing", False, "In error state", why)
        case _:
            yield condition("Progressing", progress.working, progress.reason, progress.message)
    yield condition("Ready", ready, "Ready" if ready else "Not ready", "" if ready else why)


def _volumes(content: JsonObject) -> tuple[JsonObject, bool]:
    """Which volumes are in the snapshot, and whether one is missing whose data would outlive the machine."""
    kept = {backup["volumeName"] for backup in content["spec"].get("volumeBackups") or ()}
    volumes = volumes_of(content["spec"]["source"]["virtualMachine"])
    left_out = [volume for volume in volumes if volume["name"] not in kept]
    lists = {
        "includedVolumes": [volume["name"] for volume in volumes if volume["name"] in kept],
        "excludedVolumes": [volume["name"] for volume in left_out],
    }
    partial = any(volume.get("persistentVolumeClaim") or volume.get("dataVolume") for volume in left_out)
    return {name: names for name, names in lists.items() if names}, partial


def content_status(content: JsonObject, copies: Sequence[JsonObject], missing: Sequence[str], problem: str = "") -> JsonObject:
    """The status of a content: `copies` are its VolumeSnapshots as far as they are there, `missing` the names of the others."""
    old = content.get("status") or {}
    states = [_state(copy) for copy in copies]
    whole = not missing and all(state.get("creationTime") for state in states)
    status: JsonObject = {"readyToUse": whole and all(state.get("readyToUse") for state in states)}
    if old.get("creationTime"):
        status["creationTime"] = old["creationTime"]
    if states:
        status["volumeSnapshotStatus"] = states
    if not problem and missing and old.get("creationTime"):
        problem = f"VolumeSnapshots ({', '.join(missing)}) missing: their data are gone; make a new VirtualMachineSnapshot"
    if not problem:
        wrong = next((state for state in states if (state.get("error") or {}).get("message")), None)
        problem = f"VolumeSnapshot {wrong['volumeSnapshotName']} error: {wrong['error']['message']}" if wrong else ""
    if problem:
        status["error"] = error_of(content, problem)
    return status


def error_of(obj: JsonObject, message: str) -> JsonObject:
    """The `status.error` with that message; its time is when it was first said."""
    before: JsonObject = (obj.get("status") or {}).get("error") or {}
    return before if before.get("message") == message else {"message": message, "time": format_time()}


def _state(copy: JsonObject) -> JsonObject:
    told = copy.get("status") or {}
    state: JsonObject = {"volumeSnapshotName": copy["metadata"]["name"]}
    return state | {name: told[name] for name in ("readyToUse", "creationTime", "error") if told.get(name) is not None}
