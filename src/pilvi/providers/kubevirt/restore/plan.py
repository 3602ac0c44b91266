"""What a machine and its claims shall be after a restore. Pure. Names, labels and annotations are KubeVirt's (pkg/storage/snapshot)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.lib.hashing import short_hash
from pilvi.lib.json_patch import apply_json_patch
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, DATA_VOLUMES, VOLUME_SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.volumes import volumes_of
from pilvi.runtime import is_deleting, is_true, owner_reference

__all__ = [
    "FINALIZER",
    "LAST_RESTORE",
    "OWNED_LATER",
    "PREPOPULATED",
    "changed_machine",
    "claim_of",
    "is_done",
    "is_from",
    "is_in_place",
    "is_under_way",
    "new_machine",
    "obsolete_data_volumes",
    "plan_restores",
    "target_key",
]

FINALIZER = "snapshot.kubevirt.io/vmrestore-protection"
LAST_RESTORE = "restore.kubevirt.io/lastRestoreUID"
"""On what a restore has made or changed: which one."""
OWNED_LATER = "restore.kubevirt.io/owned-by-vm"
"""On a new claim: it shall belong to the machine that this restore makes."""
PREPOPULATED = "cdi.kubevirt.io/storage.prePopulated"
"""On a DataVolume: somebody else makes its claim."""

_OF_VOLUMES = (
    "pv.kubernetes.io",
    "volume.beta.kubernetes.io",
    "volume.kubernetes.io",
    "cdi.kubevirt.io",
    "k8s.io/CloneRequest",
    "k8s.io/CloneOf",
)
"""Prefixes of annotations that say something of the old volume."""
_OURS = "pilvi.dev/"


def target_key(restore: JsonObject) -> Key:
    """The machine that is restored, or made; wake-ups meet objects without a specification too."""
    return Key(restore["metadata"]["namespace"], ((restore.get("spec") or {}).get("target") or {}).get("name") or "")


def is_done(restore: JsonObject) -> bool:
    """Whether nothing more is done for it: it is complete, or has failed."""
    return bool((restore.get("status") or {}).get("complete")) or is_true(restore, "Failure")


def is_under_way(restore: JsonObject) -> bool:
    """Whether it works on its machine, or will."""
    return not is_deleting(restore) and not is_done(restore)


def is_in_place(restore: JsonObject) -> bool:
    """Whether new claims take the names of the old ones."""
    return bool(restore["spec"].get("volumeRestorePolicy") == "InPlace")


def is_from(restore: JsonObject, obj: JsonObject) -> bool:
    """Whether this restore has made or changed the object."""
    return (obj["metadata"].get("annotations") or {}).get(LAST_RESTORE) == _mark(restore)


def _mark(restore: JsonObject) -> str:
    return f"{restore['metadata']['name']}-{restore['metadata']['uid']}"


def plan_restores(restore: JsonObject, content: JsonObject, claims: Iterable[JsonObject]) -> list[JsonObject]:
    """`status.restores`: each volume of the snapshot with its new claim.

    `claims` are those that are there; one in whose place a new one comes may belong to a DataVolume, which then keeps it.
    """
    owners = {claim["metadata"]["name"]: _data_volume_of(claim) for claim in claims}
    dumps = {volume["name"] for volume in volumes_of(content["spec"]["source"]["virtualMachine"]) if volume.get("memoryDump")}
    found = []
    for backup in content["spec"].get("volumeBackups") or ():
        if backup["volumeName"] in dumps:
            continue  # it is no disk of the machine, and of another moment
        name = _claim_name(restore, backup)
        entry = {"volumeName": backup["volumeName"], "persistentVolumeClaim": name, "volumeSnapshotName": backup["volumeSnapshotName"]}
        if is_in_place(restore) and (owner := owners.get(name)):
            entry["dataVolumeName"] = owner
        found.append(entry)
    return found


def _claim_name(restore: JsonObject, backup: JsonObject) -> str:
    volume, metadata = backup["volumeName"], restore["metadata"]
    if name := _override(restore, volume).get("restoreName"):
        return str(name)
    match restore["spec"].get("volumeRestorePolicy"):
        case "InPlace":
            return str(backup["persistentVolumeClaim"]["metadata"]["name"])
        case "PrefixTargetName":
            name = f"{target_key(restore).name}-{volume}"
            return name if len(name) <= 63 else f"{name[:54]}-{short_hash(name)}"
    return f"restore-{metadata['uid']}-{volume}"


def _override(restore: JsonObject, volume: str) -> JsonObject:
    overrides: list[JsonObject] = restore["spec"].get("volumeRestoreOverrides") or []
    return next((entry for entry in overrides if entry.get("volumeName") == volume), {})


def _data_volume_of(claim: JsonObject) -> str | None:
    references = claim["metadata"].get("ownerReferences") or ()
    return next((each["name"] for each in references if each.get("controller") and each["kind"] == DATA_VOLUMES.kind), None)


def claim_of(
    restore: JsonObject,
    content: JsonObject,
    entry: JsonObject,
    *,
    size: str | int | None,
    vm: JsonObject | None,
    data_volume: JsonObject | None,
) -> JsonObject:
    """The new claim of one volume. `size` is the least that its VolumeSnapshot asks for; `vm` the machine, when it is there already."""
    backup = next(each for each in content["spec"]["volumeBackups"] if each["volumeName"] == entry["volumeName"])
    kept, kept_spec = backup["persistentVolumeClaim"]["metadata"], backup["persistentVolumeClaim"]["spec"]
    source = content["spec"]["source"]["virtualMachine"]["metadata"]
    override = _override(restore, entry["volumeName"])
    annotations = {name: text for name, text in (kept.get("annotations") or {}).items() if not name.startswith((*_OF_VOLUMES, _OURS))}
    annotations |= {"restore.kubevirt.io/name": restore["metadata"]["name"], LAST_RESTORE: _mark(restore)}
    references = []
    if data_volume is not None:
        references.append(owner_reference({"apiVersion": DATA_VOLUMES.api_version, "kind": DATA_VOLUMES.kind, **data_volume}))
    elif restore["spec"].get("volumeOwnershipPolicy") == "None":
        pass
    elif vm is not None:
        references.append(owner_reference({"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, **vm}))
    elif _goes_with_machine(content, kept):
        annotations[OWNED_LATER] = restore["metadata"]["name"]
    named = {"apiGroup": VOLUME_SNAPSHOTS.group, "kind": VOLUME_SNAPSHOTS.kind, "name": entry["volumeSnapshotName"]}
    requests = dict((kept_spec.get("resources") or {}).get("requests") or {})
    if size is not None and quantity_bytes(size) > quantity_bytes(requests.get("storage", 0)):
        requests["storage"] = size
    spec = {name: copy.deepcopy(kept_spec[name]) for name in ("accessModes", "storageClassName", "volumeMode") if name in kept_spec}
    metadata: JsonObject = {
        "labels": {
            **(kept.get("labels") or {}),
            "restore.kubevirt.io/source-vm-name": source["name"],
            "restore.kubevirt.io/source-vm-namespace": source.get("namespace") or restore["metadata"]["namespace"],
            **(override.get("labels") or {}),
        },
        # What marks it as ours comes last.
        "annotations": {**(override.get("annotations") or {}), **annotations},
    }
    if references:
        metadata["ownerReferences"] = references
    return CLAIMS.new(
        Key(restore["metadata"]["namespace"], entry["persistentVolumeClaim"]),
        metadata=metadata,
        spec={**spec, "resources": {"requests": requests}, "dataSource": named, "dataSourceRef": named},
    )


def _goes_with_machine(content: JsonObject, claim: JsonObject) -> bool:
    """Whether the claim that was copied went with its machine: it belonged to it, or to a DataVolume of its templates."""
    vm = content["spec"]["source"]["virtualMachine"]
    templates = {template["metadata"]["name"] for template in vm["spec"].get("dataVolumeTemplates") or ()}
    owners = claim.get("ownerReferences") or ()
    return any(
        (owner["kind"] == MACHINES.kind and owner["uid"] == vm["metadata"].get("uid"))
        or (owner["kind"] == DATA_VOLUMES.kind and owner["name"] in templates)
        for owner in owners
    )


def new_machine(restore: JsonObject, content: JsonObject, restores: Sequence[JsonObject]) -> JsonObject:
    """A machine that is made from the snapshot, with the restore's patches. Raises UserError for a patch that does not fit."""
    kept, target = content["spec"]["source"]["virtualMachine"], target_key(restore)
    metadata = {name: copy.deepcopy(kept["metadata"][name]) for name in ("labels", "annotations") if kept["metadata"].get(name)}
    metadata.setdefault("annotations", {})[LAST_RESTORE] = _mark(restore)
    spec = _spec(kept, restores)
    if spec.get("running") is not None:
        spec["running"] = False
    else:
        spec["runStrategy"] = "Halted"
    made = MACHINES.new(target, metadata=metadata, spec=spec)
    operations = [_operation(text, index) for index, text in enumerate(restore["spec"].get("patches") or ())]
    hint = f"compare the path with the VirtualMachineSnapshotContent {content['metadata']['name']}"
    made = apply_json_patch(made, operations, field="spec.patches", hint=hint)
    # Whatever was patched: it is this restore's machine, and found again by that.
    described = made.setdefault("metadata", {})
    described.update({"name": target.name, "namespace": target.namespace})
    described["annotations"] = {**(described.get("annotations") or {}), LAST_RESTORE: _mark(restore)}
    return {**made, "apiVersion": MACHINES.api_version, "kind": MACHINES.kind}


def _operation(text: str, index: int) -> JsonObject:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as e:
        raise UserError(
            f"spec.patches[{index}] is no operation of a JSON patch",
            hint='write one such as {"op": "remove", "path": "/metadata/labels/app"}',
        ) from e


def changed_machine(restore: JsonObject, content: JsonObject, restores: Sequence[JsonObject], vm: JsonObject) -> JsonObject:
    """The machine `vm` as the snapshot holds it; it keeps its run strategy, labels and annotations."""
    spec = _spec(content["spec"]["source"]["virtualMachine"], restores)
    for field in ("running", "runStrategy"):
        spec.pop(field, None)
        if vm["spec"].get(field) is not None:
            spec[field] = vm["spec"][field]
    annotations = {**(vm["metadata"].get("annotations") or {}), LAST_RESTORE: _mark(restore)}
    return {**vm, "metadata": {**vm["metadata"], "annotations": annotations}, "spec": spec}


def _spec(kept: JsonObject, restores: Sequence[JsonObject]) -> JsonObject:
    """The machine's specification with the new claims in the places of the old ones.

    A volume that names a DataVolume names its new claim instead, and a template that would make that DataVolume goes: otherwise the
    machine would fill a disk anew. Only a DataVolume that keeps its claim stays as it was.
    """
    spec: JsonObject = copy.deepcopy(kept["spec"])
    entries = {entry["volumeName"]: entry for entry in restores}
    replaced = set()
    if volumes := spec["template"]["spec"].get("volumes"):
        spec["template"]["spec"]["volumes"] = [volume for volume in volumes if not volume.get("memoryDump")]
    for volume in spec["template"]["spec"].get("volumes") or ():
        entry = entries.get(volume["name"])
        if entry is None or entry.get("dataVolumeName"):
            continue
        if source := volume.pop("dataVolume", None):
            replaced.add(source["name"])
        hotpluggable = {name: value for name, value in (source or {}).items() if name == "hotpluggable"}
        volume["persistentVolumeClaim"] = {
            **(volume.get("persistentVolumeClaim") or hotpluggable),
            "claimName": entry["persistentVolumeClaim"],
        }
    if templates := spec.pop("dataVolumeTemplates", None):
        left = [template for template in templates if (template.get("metadata") or {}).get("name") not in replaced]
        if left:
            spec["dataVolumeTemplates"] = left
    return spec


def obsolete_data_volumes(vm: JsonObject | None, changed: JsonObject) -> list[str]:
    """DataVolumes that the machine had from its templates and has no more."""
    wanted = {template["metadata"]["name"] for template in changed["spec"].get("dataVolumeTemplates") or ()}
    had = [template["metadata"]["name"] for template in ((vm or {}).get("spec") or {}).get("dataVolumeTemplates") or ()]
    return [name for name in had if name not in wanted]
