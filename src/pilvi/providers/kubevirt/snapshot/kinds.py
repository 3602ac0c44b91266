"""Where the kinds live that snapshots, restores and clones are made of."""

from __future__ import annotations

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES
from pilvi.api.cdi import DataVolume
from pilvi.api.clone import VirtualMachineClone
from pilvi.api.snapshot import VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent
from pilvi.api.volumesnapshot import VolumeSnapshot

__all__ = ["CLAIMS", "CLASSES", "CLONES", "CONTENTS", "DATA_VOLUMES", "RESTORES", "SNAPSHOTS", "VOLUME_SNAPSHOTS"]

SNAPSHOTS, CONTENTS = VirtualMachineSnapshot.RESOURCE, VirtualMachineSnapshotContent.RESOURCE
RESTORES, CLONES = VirtualMachineRestore.RESOURCE, VirtualMachineClone.RESOURCE
VOLUME_SNAPSHOTS, DATA_VOLUMES = VolumeSnapshot.RESOURCE, DataVolume.RESOURCE
CLAIMS, CLASSES = PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES
