"""The claim of a DataVolume. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import ClaimPropertySet, DataVolumeSpec
from pilvi.lib.quantity import format_bytes, quantity_bytes, whole_mebibytes
from pilvi.providers.cdi.kinds import CLAIMS, CONTENT_TYPE, CREATED_FOR, PREALLOCATION
from pilvi.providers.cdi.sources import Disk, Missing
from pilvi.providers.cdi.storageprofile import choose_properties
from pilvi.providers.claims import POPULATED, annotations_of
from pilvi.runtime import owner_reference

__all__ = ["ClassFacts", "claim_of", "find_class"]

DEFAULT_VIRT = "storageclass.kubevirt.io/is-default-virt-class"
DEFAULT = "storageclass.kubernetes.io/is-default-class"

_NOT_PASSED_ON = ("kubectl.kubernetes.io/last-applied-configuration",)
_LABELS = {"app": "containerized-data-importer", "alerts.k8s.io/KubePersistentVolumeFillingUp": "disabled"}


@dataclass(frozen=True)
class ClassFacts:
    """What the storage class of a claim gives: its name, its sets of modes, and the share that a file system takes."""

    name: str
    properties: list[ClaimPropertySet]
    overhead: Fraction


def find_class(spec: DataVolumeSpec, classes: Iterable[JsonObject]) -> str | None:
    """The class that is asked for, else the default one for machines, else the default one; None when there is no default."""
    given = (spec.storage.storage_class_name if spec.storage else None) or (spec.pvc.storage_class_name if spec.pvc else None)
    if given:
        return given
    for annotation in (DEFAULT_VIRT, DEFAULT):
        marked = [obj for obj in classes if annotations_of(obj).get(annotation) == "true"]
        if marked:
            # The newest, as Kubernetes itself chooses among several.
            marked.sort(key=lambda obj: (obj["metadata"].get("creationTimestamp") or "", obj["metadata"]["name"]))
            return str(marked[-1]["metadata"]["name"])
    return None


def claim_of(data_volume: JsonObject, spec: DataVolumeSpec, facts: ClassFacts, copied: Disk | None) -> JsonObject | Missing:
    """The claim, or why there can be none. `copied` is the disk that is copied."""
    if spec.pvc is not None:
        wanted: dict[str, Any] = msgspec.to_builtins(spec.pvc)
        given = (wanted.get("resources") or {}).get("requests", {}).get("storage", 0)
        if copied is not None and quantity_bytes(given) < copied.size_bytes:
            return _too_small(quantity_bytes(given), copied)
    else:
        found = _from_storage(spec, facts, copied)
        if isinstance(found, Missing):
            return found
        wanted = found
    wanted["storageClassName"] = facts.name
    metadata = data_volume["metadata"]
    annotations = {name: value for name, value in annotations_of(data_volume).items() if name not in _NOT_PASSED_ON}
    annotations |= {CONTENT_TYPE: "kubevirt", CREATED_FOR: metadata["uid"]}
    if spec.preallocation is not None:
        annotations[PREALLOCATION] = str(spec.preallocation).lower()
    if spec.source is not None or spec.source_ref is not None:
        annotations[POPULATED] = "false"
    return CLAIMS.new(
        Key.of(data_volume),
        metadata={
            "annotations": annotations,
            "labels": {**(metadata.get("labels") or {}), **_LABELS},
            "ownerReferences": [owner_reference(data_volume)],
        },
        spec=wanted,
    )


def _from_storage(spec: DataVolumeSpec, facts: ClassFacts, copied: Disk | None) -> dict[str, Any] | Missing:
    assert spec.storage is not None  # noqa: S101 (a policy holds that there is exactly one of pvc and storage)
    wanted: dict[str, Any] = msgspec.to_builtins(spec.storage)
    mode = spec.storage.volume_mode
    if mode is None and copied is not None and any(entry.volume_mode == copied.mode for entry in facts.properties):
        mode = copied.mode
    chosen = choose_properties(facts.properties, mode, spec.storage.access_modes)
    if chosen is None:
        return Missing(
            "ErrClaimNotValid",
            f"storage class {facts.name} has no known volume mode and access modes for this; write both below spec.storage, or"
            f" claimPropertySets into the StorageProfile {facts.name}",
        )
    wanted["volumeMode"], wanted["accessModes"] = chosen.volume_mode, chosen.access_modes
    resources = wanted.setdefault("resources", {})
    given = resources.get("requests", {}).get("storage")
    if given is not None:
        size = quantity_bytes(given)
    elif copied is not None:
        size = copied.size_bytes
    else:
        return Missing("ErrClaimNotValid", "the size of the disk is not given; write resources.requests.storage below spec.storage")
    if copied is not None and size < copied.size_bytes:
        return _too_small(size, copied)
    if chosen.volume_mode == "Filesystem" and facts.overhead:
        size = whole_mebibytes(math.ceil(size / (1 - facts.overhead)) if facts.overhead < 1 else size)
        given = None
    resources["requests"] = {**resources.get("requests", {}), "storage": given if given is not None else format_bytes(size)}
    return wanted


def _too_small(size: int, copied: Disk) -> Missing:
    return Missing(
        "CloneValidationFailed",
        f"target resources requests storage size is smaller than the source: {size} bytes, and {copied.name} has {copied.size_bytes};"
        f" ask for at least {format_bytes(copied.size_bytes)} in a new DataVolume",
    )
