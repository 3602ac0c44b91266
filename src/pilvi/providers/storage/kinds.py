"""The kinds that this group reads and writes, and the annotations by which it talks."""

from __future__ import annotations

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from pilvi.api.volumesnapshot import VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent

__all__ = [
    "CLAIMS",
    "CLASSES",
    "CONTENTS",
    "MODES",
    "PROVISIONED",
    "PROVISIONED_BY",
    "PROVISIONER_OF_CLAIM",
    "SNAPSHOTS",
    "SNAPSHOT_CLASSES",
    "VOLUMES",
]

CLAIMS, VOLUMES, CLASSES = PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
SNAPSHOTS, CONTENTS = VolumeSnapshot.RESOURCE, VolumeSnapshotContent.RESOURCE
SNAPSHOT_CLASSES = VolumeSnapshotClass.RESOURCE

PROVISIONED = "pilvi.dev/Provisioned"
"""Condition of a claim of ours that has no volume yet, or has lost it: why. Absent when all is well."""

MODES = "pilvi.dev/volume-modes"
"""On a StorageClass: the volume modes that it has, with commas; both when it does not say."""

PROVISIONER_OF_CLAIM = "volume.kubernetes.io/storage-provisioner"
"""On a claim: who shall make its volume. Kubernetes writes it, and with WaitForFirstConsumer only once a Pod has a place."""

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
"""On a PersistentVolume: who has made it. Kubernetes leaves the deletion of its data to that one."""
