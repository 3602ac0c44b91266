"""VirtualMachineSnapshotContents: each stays as long as its snapshot does, and goes when it has been asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import Key
from pilvi.lib.disk import on_disk
from pilvi.providers.kubevirt.machines.folder import remove_kept
from pilvi.providers.kubevirt.snapshot.kinds import CONTENTS, SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import CONTENT_FINALIZER, content_name, failed, snapshot_key
from pilvi.runtime import Done, Result, Waiting, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Contents"]


class Contents:
    """The reconciler of VirtualMachineSnapshotContents."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._contents = platform.informers.get(CONTENTS)
        self._snapshots = platform.informers.get(SNAPSHOTS)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the content `key`. The garbage collector takes its VolumeSnapshots."""
        content = self._contents.get(key)
        if content is None or not is_deleting(content):
            return Done()
        snapshot = self._snapshots.get(snapshot_key(content))
        if snapshot is not None and content_name(snapshot) == key.name and not is_deleting(snapshot) and not failed(snapshot):
            return Waiting("InUse", f"VirtualMachineSnapshot {Key.of(snapshot)} has to be deleted first")
        await on_disk(remove_kept, self._cloud, content["metadata"]["uid"])
        await remove_finalizer(self._client, CONTENTS, content, CONTENT_FINALIZER)
        return Done()
