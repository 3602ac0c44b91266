"""The objects that hold a VirtualMachineSnapshot. Pure. Names and finalizers are KubeVirt's (pkg/storage/snapshot)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime

from pilvi.api import JsonObject, Key
from pilvi.lib.clock import parse_duration, parse_time
from pilvi.providers.kubevirt.snapshot.kinds import CONTENTS, VOLUME_SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.volumes import MachineVolume
from pilvi.runtime import is_deleting, owner_reference

__all__ = [
    "CONTENT_FINALIZER",
    "FINALIZER",
    "MACHINE_KIND",
    "content_name",
    "content_of",
    "deletes_content",
    "failed",
    "in_progress",
    "left_s",
    "snapshot_key",
    "source_key",
    "volume_snapshot_of",
]

FINALIZER = "snapshot.kubevirt.io/vmsnapshot-protection"
CONTENT_FINALIZER = "snapshot.kubevirt.io/vmsnapshotcontent-protection"
MACHINE_KIND = "VirtualMachine"
DEADLINE_S = 300.0


def source_key(snapshot: JsonObject) -> Key:
    """The machine that a snapshot is of; wake-ups meet objects without a specification too."""
    return Key(snapshot["metadata"]["namespace"], ((snapshot.get("spec") or {}).get("source") or {}).get("name") or "")


def content_name(snapshot: JsonObject) -> str:
    """The content of a snapshot."""
    return f"vmsnapshot-content-{snapshot['metadata']['uid']}"


def snapshot_key(content: JsonObject) -> Key:
    """The snapshot that a content says it belongs to."""
    return Key(content["metadata"]["namespace"], (content.get("spec") or {}).get("virtualMachineSnapshotName") or "")


def in_progress(snapshot: JsonObject) -> bool:
    """Whether it is still to be made."""
    return not is_deleting(snapshot) and (snapshot.get("status") or {}).get("phase") in (None, "", "InProgress")


def failed(snapshot: JsonObject) -> bool:
    """Whether it will never be made."""
    return bool((snapshot.get("status") or {}).get("phase") == "Failed")


def deletes_content(snapshot: JsonObject, content: JsonObject) -> bool:
    """Whether the content goes with its snapshot: by its policy, or because nothing could be made of it."""
    ready = bool((content.get("status") or {}).get("readyToUse"))
    return (snapshot["spec"].get("deletionPolicy") or "Delete") == "Delete" or not ready


def left_s(snapshot: JsonObject, now: datetime) -> float | None:
    """Seconds until a snapshot that is not made has failed, negative after that; None without a deadline."""
    text = snapshot["spec"].get("failureDeadline")
    deadline_s = DEADLINE_S if text is None else parse_duration(text)
    if not deadline_s:
        return None
    return deadline_s - (now - parse_time(snapshot["metadata"]["creationTimestamp"])).total_seconds()


def content_of(snapshot: JsonObject, vm: JsonObject, volumes: Iterable[MachineVolume]) -> JsonObject:
    """The content: the machine and its claims as they are, and the names of their copies."""
    uid = snapshot["metadata"]["uid"]
    backups = [
        {
            "volumeName": volume.name,
            "persistentVolumeClaim": {"metadata": _simple(volume.claim["metadata"]), "spec": copy.deepcopy(volume.claim["spec"])},
            "volumeSnapshotName": f"vmsnapshot-{uid}-volume-{volume.name}",
        }
        for volume in volumes
        if volume.claim is not None
    ]
    return CONTENTS.new(
        Key(snapshot["metadata"]["namespace"], content_name(snapshot)),
        metadata={"finalizers": [CONTENT_FINALIZER]},
        spec={
            "virtualMachineSnapshotName": snapshot["metadata"]["name"],
            "source": {"virtualMachine": {"metadata": _simple(vm["metadata"]), "spec": _spec(vm)}},
            "volumeBackups": backups,
        },
    )


def volume_snapshot_of(content: JsonObject, backup: JsonObject) -> JsonObject:
    """The copy of one volume. It goes with the content."""
    typed = {"apiVersion": CONTENTS.api_version, "kind": CONTENTS.kind, **content}
    return VOLUME_SNAPSHOTS.new(
        Key(content["metadata"]["namespace"], backup["volumeSnapshotName"]),
        metadata={"ownerReferences": [owner_reference(typed)], "labels": {"snapshot.kubevirt.io/source-vm-name": _machine_name(content)}},
        spec={"source": {"persistentVolumeClaimName": backup["persistentVolumeClaim"]["metadata"]["name"]}},
    )


def _machine_name(content: JsonObject) -> str:
    return str(content["spec"]["source"]["virtualMachine"]["metadata"]["name"])


def _spec(vm: JsonObject) -> JsonObject:
    """The machine's specification, with the revisions of its instance type and preference that are in force."""
    spec: JsonObject = copy.deepcopy(vm["spec"])
    for field, told in (("instancetype", "instancetypeRef"), ("preference", "preferenceRef")):
        revision = (((vm.get("status") or {}).get(told) or {}).get("controllerRevisionRef") or {}).get("name")
        if spec.get(field) and revision and not spec[field].get("revisionName"):
            spec[field]["revisionName"] = revision
    return spec


def _simple(metadata: JsonObject) -> JsonObject:
    kept = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences")
    return {name: copy.deepcopy(metadata[name]) for name in kept if metadata.get(name)}
