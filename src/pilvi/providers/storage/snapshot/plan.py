"""What the content of a VolumeSnapshot shall be. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.providers.claims import PROVISIONER, VOLUME, annotations_of
from pilvi.providers.storage.kinds import CONTENTS, SNAPSHOTS
from pilvi.providers.storage.sources import Disk

__all__ = ["CONTENT_FINALIZER", "content_name", "content_of", "find_default_class", "snapshot_folder"]

CONTENT_FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"


def content_name(snapshot: JsonObject) -> str:
    """The name of the content that is made for a VolumeSnapshot."""
    return f"snapcontent-{snapshot['metadata']['uid']}"


def snapshot_folder(uid: str) -> str:
    """Folder, below `<home>/volumes`, of the copy of the VolumeSnapshot with that UID."""
    return f"snapshot-{uid}"


def content_of(snapshot: JsonObject, snapshot_class: JsonObject, disk: Disk) -> JsonObject:
    """The content of a VolumeSnapshot of `disk`."""
    key, uid = Key.of(snapshot), snapshot["metadata"]["uid"]
    return CONTENTS.new(
        Key("", content_name(snapshot)),
        metadata={"annotations": {VOLUME: snapshot_folder(uid)}, "finalizers": [CONTENT_FINALIZER]},
        spec={
            "deletionPolicy": snapshot_class["deletionPolicy"],
            "driver": PROVISIONER,
            "source": {"volumeHandle": disk.file.parent.name},
            "sourceVolumeMode": disk.mode,
            "volumeSnapshotClassName": snapshot_class["metadata"]["name"],
            "volumeSnapshotRef": {
                "apiVersion": SNAPSHOTS.api_version,
                "kind": SNAPSHOTS.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid,
            },
        },
    )


def find_default_class(classes: Iterable[JsonObject]) -> JsonObject:
    """The default VolumeSnapshotClass of ours. Raises UserError when there is none, or more than one."""
    found = [obj for obj in classes if obj["driver"] == PROVISIONER and annotations_of(obj).get(DEFAULT_CLASS) == "true"]
    if len(found) != 1:
        told = ", ".join(sorted(obj["metadata"]["name"] for obj in found)) or "none"
        raise UserError(
            f"the VolumeSnapshot names no class, and of {PROVISIONER} the default ones are: {told}",
            hint="write spec.volumeSnapshotClassName into a new VolumeSnapshot",
        )
    return found[0]
