"""VolumeSnapshots: each gets a VolumeSnapshotContent, which makes the copy, and says what that one says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, UserError, format_chain
from pilvi.lib.clock import format_time
from pilvi.lib.quantity import format_bytes
from pilvi.providers.claims import PROVISIONER
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.providers.storage.kinds import CONTENTS, SNAPSHOT_CLASSES, SNAPSHOTS
from pilvi.providers.storage.snapshot.plan import content_name, content_of, find_default_class
from pilvi.providers.storage.sources import Awaited, Sources
from pilvi.runtime import Done, Result, Waiting, ensure_finalizer, has_finalizer, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FINALIZER", "Snapshots", "error_of", "status_of"]

FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"
LOOK_AGAIN_S = 15.0


class Snapshots:
    """The reconciler of VolumeSnapshots."""

    def __init__(self, platform: Platform, sources: Sources) -> None:
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)
        self._classes = informers.get(SNAPSHOT_CLASSES)
        self._sources = sources

    async def reconcile(self, key: Key) -> Result:
        """One pass for the VolumeSnapshot `key`."""
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return Done()
        if is_deleting(snapshot):
            return await self._delete(snapshot)
        snapshot = await ensure_finalizer(self._client, SNAPSHOTS, snapshot, FINALIZER)
        try:
            content = await self._content(snapshot)
        except UserError as e:
            content = Awaited("SnapshotContentCreationFailed", format_chain(e))
        if isinstance(content, Awaited):
            error = error_of(snapshot, content.message)
            if error != (snapshot.get("status") or {}).get("error"):
                self._events.record(snapshot, "Warning", content.reason, content.message)
            await write_status(self._client, SNAPSHOTS, snapshot, {**(snapshot.get("status") or {}), "readyToUse": False, "error": error})
            return Waiting(content.reason, content.message, LOOK_AGAIN_S)
        ready = bool((snapshot.get("status") or {}).get("readyToUse"))
        stored = await write_status(self._client, SNAPSHOTS, snapshot, status_of(content))
        if stored["status"].get("readyToUse") and not ready:
            self._events.record(snapshot, "Normal", "SnapshotReady", f"Snapshot {key} is ready to use.")
        return Done()

    async def _content(self, snapshot: JsonObject) -> JsonObject | Awaited:
        """The content of a VolumeSnapshot, made when it is not there. Raises UserError."""
        source = snapshot["spec"]["source"]
        if name := source.get("volumeSnapshotContentName"):
            return await self._adopt(snapshot, name)
        name = content_name(snapshot)
        found = self._contents.get(Key("", name))
        if found is not None:
            return found
        if (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName"):
            return Awaited("SnapshotContentMissing", f"VolumeSnapshotContent {name} is gone, and its copy; make a new VolumeSnapshot")
        disk = self._sources.of_claim(Key(snapshot["metadata"]["namespace"], source["persistentVolumeClaimName"]))
        if isinstance(disk, Awaited):
            return disk
        snapshot_class = await self._class(snapshot)
        try:
            return await self._client.create(CONTENTS, content_of(snapshot, snapshot_class, disk))
        except AlreadyExists:
            return await self._client.get(CONTENTS, Key("", name))

    async def _adopt(self, snapshot: JsonObject, name: str) -> JsonObject | Awaited:
        """The content that somebody made by hand for this VolumeSnapshot."""
        content = self._contents.get(Key("", name))
        if content is None:
            return Awaited("SnapshotContentMissing", f"there is no VolumeSnapshotContent {name}; create it, or name another")
        reference, key = content["spec"].get("volumeSnapshotRef") or {}, Key.of(snapshot)
        uid = snapshot["metadata"]["uid"]
        if content["spec"].get("driver") != PROVISIONER:
            raise UserError(f"VolumeSnapshotContent {name} is of another driver", hint=f"name one whose driver is {PROVISIONER}")
        if (reference.get("namespace"), reference.get("name")) != (key.namespace, key.name) or reference.get("uid") not in (None, "", uid):
            raise UserError(
                f"VolumeSnapshotContent {name} belongs to VolumeSnapshot {reference.get('namespace')}/{reference.get('name')}",
                hint=f"its spec.volumeSnapshotRef has to name {key}",
            )
        if reference.get("uid") != uid:
            guard = {"uid": content["metadata"]["uid"], "resourceVersion": content["metadata"]["resourceVersion"]}
            change: JsonObject = {"metadata": guard, "spec": {"volumeSnapshotRef": {**reference, "uid": uid}}}
            content = await self._client.patch(CONTENTS, Key("", name), change)
        return content

    async def _class(self, snapshot: JsonObject) -> JsonObject:
        """The class of a VolumeSnapshot, the default one written down in it. Raises UserError."""
        name = snapshot["spec"].get("volumeSnapshotClassName")
        found = self._classes.get(Key("", name)) if name is not None else find_default_class(self._classes.list())
        if found is None:
            raise UserError(f"there is no VolumeSnapshotClass {name}", hint="create it, or make a VolumeSnapshot of another class")
        if name is None:
            change: JsonObject = {"volumeSnapshotClassName": found["metadata"]["name"]}
            await self._client.patch(SNAPSHOTS, Key.of(snapshot), {"metadata": {"uid": snapshot["metadata"]["uid"]}, "spec": change})
        if found["driver"] != PROVISIONER:
            raise UserError(f"VolumeSnapshotClass {name} is of driver {found['driver']}", hint=f"use a class whose driver is {PROVISIONER}")
        if parameters := found.get("parameters"):
            raise UserError(
                f"VolumeSnapshotClass {name} has parameters that nobody knows: {', '.join(sorted(parameters))}",
                hint="use a class without them",
            )
        return found

    async def _delete(self, snapshot: JsonObject) -> Result:
        """The copy goes with its VolumeSnapshot, unless its policy is to stay."""
        if not has_finalizer(snapshot, FINALIZER):
            return Done()
        name = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName") or content_name(snapshot)
        content = self._contents.get(Key("", name))
        ours = content is not None and (content["spec"].get("volumeSnapshotRef") or {}).get("uid") == snapshot["metadata"]["uid"]
        if content is not None and ours and content["spec"]["deletionPolicy"] == "Delete":
            if not is_deleting(content):
                await self._client.ensure_absent(CONTENTS, Key("", name), uid=content["metadata"]["uid"])
            return Waiting("ContentIsDeleted", f"the copy {name} is being removed", LOOK_AGAIN_S)
        await remove_finalizer(self._client, SNAPSHOTS, snapshot, FINALIZER)
        return Done()


def status_of(content: JsonObject) -> JsonObject:
    """What a VolumeSnapshot says of the content it is bound to. Pure."""
    told: Mapping[str, object] = content.get("status") or {}
    status: JsonObject = {
        "boundVolumeSnapshotContentName": content["metadata"]["name"],
        "readyToUse": bool(told.get("readyToUse")),
    }
    if moment := told.get("creationTime"):
        status["creationTime"] = format_time(datetime.fromtimestamp(int(str(moment)) / 1e9, UTC))
    if told.get("restoreSize") is not None:
        status["restoreSize"] = format_bytes(int(str(told["restoreSize"])))
    if told.get("error"):
        status["error"] = told["error"]
    return status


def error_of(obj: JsonObject, message: str) -> JsonObject:
    """The `status.error` with that message; its time is when it was first said."""
    before: JsonObject = (obj.get("status") or {}).get("error") or {}
    return before if before.get("message") == message else {"message": message, "time": format_time()}
