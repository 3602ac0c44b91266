"""VolumeSnapshotContents: they make the copy, say when it is there, and decide what becomes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError, format_chain
from pilvi.lib.disk import on_disk
from pilvi.providers.claims import PROVISIONER, VOLUME, annotations_of, find_volume, volume_file
from pilvi.providers.status import write_status
from pilvi.providers.storage import files
from pilvi.providers.storage.copies import Copies
from pilvi.providers.storage.kinds import CONTENTS, SNAPSHOTS
from pilvi.providers.storage.snapshot.controller import error_of
from pilvi.providers.storage.snapshot.plan import CONTENT_FINALIZER
from pilvi.runtime import Done, Result, Waiting, ensure_finalizer, has_finalizer, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilvi.providers.platform import Platform

__all__ = ["Contents"]

LOOK_AGAIN_S = 30.0


class Contents:
    """The reconciler of VolumeSnapshotContents. `wake` is set to the controller's `enqueue`."""

    def __init__(self, platform: Platform, copies: Copies) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._contents = platform.informers.get(CONTENTS)
        self._snapshots = platform.informers.get(SNAPSHOTS)
        self._copies = copies
        self.wake: Callable[[Key], None] = lambda _key: None

    async def reconcile(self, key: Key) -> Result:
        """One pass for the content `key`."""
        content = self._contents.get(key)
        if content is None or content["spec"].get("driver") != PROVISIONER:
            return Done()
        if is_deleting(content):
            return await self._delete(content)
        content = await ensure_finalizer(self._client, CONTENTS, content, CONTENT_FINALIZER)
        if self._is_orphan(content) and content["spec"]["deletionPolicy"] == "Delete":
            await self._client.ensure_absent(CONTENTS, key, uid=content["metadata"]["uid"])
            return Done()
        try:
            return await self._copy(await self._named(content))
        except UserError as e:
            return await self._fail(content, format_chain(e))

    async def _named(self, content: JsonObject) -> JsonObject:
        """The content with its folder's name on it; one that was made by hand says it in its source only."""
        handle = content["spec"]["source"].get("snapshotHandle")
        if handle is None or annotations_of(content).get(VOLUME) == handle:
            return content
        guard = {"uid": content["metadata"]["uid"], "resourceVersion": content["metadata"]["resourceVersion"]}
        return await self._client.patch(CONTENTS, Key.of(content), {"metadata": {**guard, "annotations": {VOLUME: handle}}})

    async def _copy(self, content: JsonObject) -> Result:
        folder = find_volume(content)
        if folder is None:
            raise UserError(
                "the content does not say in which folder the copy is", hint="make a VolumeSnapshot of a claim, or name a snapshotHandle"
            )
        disk = volume_file(self._cloud, folder)
        status, ended = content.get("status") or {}, self._copies.take_ended(disk)
        size = await on_disk(files.find_size, disk)
        if size is None:
            volume = content["spec"]["source"].get("volumeHandle")
            if volume is None or status.get("readyToUse"):
                raise UserError(f"there is no copy in {disk.parent}", hint="put it back, or make a new VolumeSnapshot")
            source = volume_file(self._cloud, volume)
            size = await on_disk(files.find_size, source)
            if size is None:
                raise UserError(f"the disk {source} is gone", hint="make a VolumeSnapshot of another claim")
            if ended is not None and ended.error is not None:
                return await self._fail(content, format_chain(ended.error))
            key = Key.of(content)
            self._copies.begin(source, disk, size, lambda: self.wake(key))
            return Waiting("Copying", "the volume is being copied", LOOK_AGAIN_S)
        if not status.get("readyToUse"):
            told = {"snapshotHandle": folder, "creationTime": time.time_ns(), "readyToUse": True, "restoreSize": size}
            await write_status(self._client, CONTENTS, content, told)
        return Done()

    async def _fail(self, content: JsonObject, message: str) -> Result:
        error = error_of(content, message)
        if error != (content.get("status") or {}).get("error"):
            self._events.record(content, "Warning", "SnapshotCreationFailed", message)
        await write_status(self._client, CONTENTS, content, {**(content.get("status") or {}), "readyToUse": False, "error": error})
        return Waiting("SnapshotCreationFailed", message, LOOK_AGAIN_S)

    async def _delete(self, content: JsonObject) -> Result:
        """Let the copy go, or note that it is kept; not while its VolumeSnapshot stays."""
        if not has_finalizer(content, CONTENT_FINALIZER):
            return Done()
        snapshot = self._snapshot(content)
        if snapshot is not None and not is_deleting(snapshot):
            return Waiting("Bound", f"VolumeSnapshot {Key.of(snapshot)} has to be deleted first", LOOK_AGAIN_S)
        folder = find_volume(content)
        if folder is not None:
            disk = volume_file(self._cloud, folder)
            await self._copies.stop(disk)
            if content["spec"]["deletionPolicy"] == "Delete":
                await on_disk(files.remove, disk.parent)
            else:
                reference = content["spec"]["volumeSnapshotRef"]
                why = f"VolumeSnapshot {reference.get('namespace')}/{reference.get('name')}, kept since its deletion policy is Retain"
                await on_disk(files.keep, disk.parent, why)
        await remove_finalizer(self._client, CONTENTS, content, CONTENT_FINALIZER)
        return Done()

    def _snapshot(self, content: JsonObject) -> JsonObject | None:
        """The VolumeSnapshot that the content is bound to."""
        reference = content["spec"].get("volumeSnapshotRef") or {}
        found = self._snapshots.get(Key(reference.get("namespace") or "", reference.get("name") or ""))
        return found if found is not None and found["metadata"]["uid"] == reference.get("uid") else None

    def _is_orphan(self, content: JsonObject) -> bool:
        """Whether its VolumeSnapshot is gone; one that was made by hand and has not met its own yet is none."""
        return bool((content["spec"].get("volumeSnapshotRef") or {}).get("uid")) and self._snapshot(content) is None
