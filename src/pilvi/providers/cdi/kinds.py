"""The kinds that this group reads and writes, and the annotations by which its controllers and other tools talk."""

from __future__ import annotations

from pilvi.api.builtin import CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, SECRETS, STORAGE_CLASSES
from pilvi.api.cdi import (
    CDIConfig,
    DataImportCron,
    DataSource,
    DataVolume,
    StorageProfile,
    VolumeCloneSource,
    VolumeImportSource,
    VolumeUploadSource,
)
from pilvi.api.resource import Resource

__all__ = [
    "CLAIMS",
    "CLASSES",
    "CLONE_SOURCES",
    "CONFIGS",
    "CONFIG_MAPS",
    "DATA_IMPORT_CRONS",
    "DATA_SOURCES",
    "DATA_VOLUMES",
    "IMPORT_SOURCES",
    "PODS",
    "PROFILES",
    "SECRETS",
    "SNAPSHOTS",
    "SNAPSHOT_CONTENTS",
    "UPLOAD_SOURCES",
    "VOLUMES",
]

CLAIMS, VOLUMES, CLASSES = PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
DATA_VOLUMES, DATA_SOURCES = DataVolume.RESOURCE, DataSource.RESOURCE
DATA_IMPORT_CRONS = DataImportCron.RESOURCE
PROFILES, CONFIGS = StorageProfile.RESOURCE, CDIConfig.RESOURCE
IMPORT_SOURCES, CLONE_SOURCES = VolumeImportSource.RESOURCE, VolumeCloneSource.RESOURCE
UPLOAD_SOURCES = VolumeUploadSource.RESOURCE
SNAPSHOTS = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot")
SNAPSHOT_CONTENTS = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False)

# On claims, under CDI's names.
PHASE = "cdi.kubevirt.io/storage.pod.phase"
"""Running, Succeeded or Failed: how the filling of a claim stands. Failed is for good."""
READY = "cdi.kubevirt.io/storage.pod.ready"
"""true while a claim takes an upload."""
PROGRESS = "cdi.kubevirt.io/storage.populator.progress"
RESTARTS = "cdi.kubevirt.io/storage.pod.restarts"
RUNNING = "cdi.kubevirt.io/storage.condition.running"
RUNNING_REASON = "cdi.kubevirt.io/storage.condition.running.reason"
RUNNING_MESSAGE = "cdi.kubevirt.io/storage.condition.running.message"
CONTENT_TYPE = "cdi.kubevirt.io/storage.contentType"
PREALLOCATION = "cdi.kubevirt.io/storage.preallocation.requested"
CLONE_TYPE = "cdi.kubevirt.io/cloneType"
FALLBACK_REASON = "cdi.kubevirt.io/cloneFallbackReason"
CREATED_FOR = "cdi.kubevirt.io/createdForDataVolume"
