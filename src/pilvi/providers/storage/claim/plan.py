"""What the volume of a claim shall be. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS
from pilvi.errors import UserError
from pilvi.lib.quantity import format_bytes, quantity_bytes, whole_mebibytes
from pilvi.providers.claims import BIND_AT_ONCE, PROVISIONER, VOLUME, annotations_of, claim_volume
from pilvi.providers.storage.kinds import MODES, PROVISIONED_BY, PROVISIONER_OF_CLAIM, VOLUMES

__all__ = ["FINALIZER", "Plan", "is_ours", "plan_volume", "round_up", "volume_of"]

FINALIZER = "pilvi.dev/volume"

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Plan:
    """A volume to make. `folder` is also the name of its PersistentVolume."""

    folder: str
    size_bytes: int
    mode: str
    access: tuple[str, ...]
    reclaim: str
    storage_class: str


def is_ours(claim: JsonObject, storage_class: JsonObject | None) -> bool:
    """Whether we shall make the claim's volume now.

    Kubernetes says so on the claim. Where the class waits for a first consumer it says nothing until there is one, so a claim that CDI
    wants bound at once is taken by its class.
    """
    if storage_class is None or storage_class.get("provisioner") != PROVISIONER:
        return False
    told = annotations_of(claim)
    return told.get(PROVISIONER_OF_CLAIM) == PROVISIONER or told.get(BIND_AT_ONCE) == "true"


def plan_volume(claim: JsonObject, storage_class: JsonObject) -> Plan:
    """The volume for a claim of that class. Raises UserError for one that cannot be made."""
    spec, name = claim["spec"], storage_class["metadata"]["name"]
    if spec.get("selector"):
        raise UserError("a claim with a selector gets no new volume", hint="leave spec.selector out, or make the volume by hand")
    if parameters := storage_class.get("parameters"):
        unknown = ", ".join(sorted(parameters))
        raise UserError(f"storage class {name} has parameters that {PROVISIONER} does not know: {unknown}", hint="use a class without them")
    if storage_class.get("mountOptions"):
        raise UserError(f"storage class {name} has mount options, and nothing is mounted", hint="use a class without them")
    if attributes := spec.get("volumeAttributesClassName"):
        raise UserError(f"{PROVISIONER} knows no VolumeAttributesClass {attributes}", hint="leave spec.volumeAttributesClassName out")
    mode = spec.get("volumeMode") or "Filesystem"
    modes = annotations_of(storage_class).get(MODES)
    if modes is not None and mode not in modes.split(","):
        raise UserError(f"storage class {name} has no volumes of mode {mode}", hint=f"write volumeMode: {modes.split(',')[0]}")
    resources = spec.get("resources") or {}
    size = round_up(quantity_bytes((resources.get("requests") or {}).get("storage", 0)))
    limit = (resources.get("limits") or {}).get("storage")
    if limit is not None and size > quantity_bytes(limit):
        raise UserError(f"a volume of {format_bytes(size)} is larger than the limit {limit}", hint="use whole MiB for request and limit")
    return Plan(claim_volume(claim), size, mode, tuple(spec.get("accessModes") or ()), storage_class.get("reclaimPolicy") or "Delete", name)


def volume_of(claim: JsonObject, plan: Plan) -> JsonObject:
    """The PersistentVolume of a claim.

    It has no node affinity: every virtual host of the cloud is on this machine and reaches the file. The source is a CSI driver's, the
    only one whose growth and deletion Kubernetes leaves to others without a warning.
    """
    key = Key.of(claim)
    reference = {
        "apiVersion": "v1",
        "kind": PERSISTENT_VOLUME_CLAIMS.kind,
        "namespace": key.namespace,
        "name": key.name,
        "uid": claim["metadata"]["uid"],
        "resourceVersion": claim["metadata"]["resourceVersion"],
    }
    return VOLUMES.new(
        Key("", plan.folder),
        metadata={"annotations": {PROVISIONED_BY: PROVISIONER, VOLUME: plan.folder}, "finalizers": [FINALIZER]},
        spec={
            "accessModes": [*plan.access],
            "capacity": {"storage": format_bytes(plan.size_bytes)},
            "claimRef": reference,
            "csi": {"driver": PROVISIONER, "volumeHandle": plan.folder},
            "persistentVolumeReclaimPolicy": plan.reclaim,
            "storageClassName": plan.storage_class,
            "volumeMode": plan.mode,
        },
    )


def round_up(size_bytes: int) -> int:
    """Whole MiB, at least one, as CDI's sizes are."""
    return max(MEBIBYTE, whole_mebibytes(size_bytes))
