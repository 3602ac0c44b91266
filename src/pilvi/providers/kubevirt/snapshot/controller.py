"""Makes VirtualMachineSnapshots: the content first, then the copies of all volumes while the guest holds still.

A pass does what can be done now; the objects that it waits for wake the next one. What was begun by an engine that died is looked at
before it is believed: copies that a guest with an agent did not hold still for are thrown away and made again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, TimedOut, format_chain
from pilvi.lib.clock import format_time, utc_now
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.control import MachineRefusal
from pilvi.providers.kubevirt.machines.folder import copy_kept, has_kept
from pilvi.providers.kubevirt.snapshot.kinds import CONTENTS, SNAPSHOTS, VOLUME_SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import (
    FINALIZER,
    content_name,
    content_of,
    deletes_content,
    failed,
    in_progress,
    left_s,
    source_key,
    volume_snapshot_of,
)
from pilvi.providers.kubevirt.snapshot.quiesce import Guest, Quiesce
from pilvi.providers.kubevirt.snapshot.revisions import share_revisions
from pilvi.providers.kubevirt.snapshot.status import NO_SOURCE, NOT_LOCKED, WORKING, Progress, content_status, snapshot_status
from pilvi.providers.kubevirt.snapshot.volumes import MachineVolumes
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Result, Waiting, ensure_finalizer, has_finalizer, is_controlled_by, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Snapshots"]

LOOK_AGAIN_S = 30.0
FREEZE_AGAIN_S = 5.0


class Snapshots:
    """The reconciler of VirtualMachineSnapshots."""

    def __init__(self, platform: Platform, quiesce: Quiesce) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)
        self._copies = informers.get(VOLUME_SNAPSHOTS)
        self._machines = informers.get(MACHINES)
        self._instances = informers.get(INSTANCES)
        self._volumes = MachineVolumes(platform)
        self._quiesce = quiesce

    async def reconcile(self, key: Key) -> Result:
        """One pass for the snapshot `key`."""
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return Done()
        if is_deleting(snapshot):
            return await self._delete(snapshot)
        snapshot = await ensure_finalizer(self._client, SNAPSHOTS, snapshot, FINALIZER)
        if failed(snapshot):
            return await self._give_up(snapshot)
        if in_progress(snapshot):
            return await self._make(snapshot)
        return await self._keep(snapshot)

    async def _make(self, snapshot: JsonObject) -> Result:
        time_left_s = left_s(snapshot, utc_now())
        vm = self._machine(snapshot)
        if time_left_s is not None and time_left_s <= 0:
            await self._report(snapshot, vm, self._content(snapshot), Progress(WORKING, "it was not made in time"), failed=True)
            return await self._give_up(snapshot)
        guest = self._guest(vm)
        begun = self._content(snapshot) or await self._begin(snapshot, vm)
        content = None
        if isinstance(begun, Progress):
            progress = begun
        else:
            progress, content = await self._copy(begun, guest, time_left_s)
        # How the machine is says something of the copies only while they are being made.
        indications = guest.indications if guest is not None and content is not None else ()
        stored = await self._report(snapshot, vm, content, progress, indications=indications)
        if not in_progress(stored):
            return Done()
        retry_s = FREEZE_AGAIN_S if progress.is_error else LOOK_AGAIN_S
        return Waiting("InProgress", progress.message, retry_s if time_left_s is None else max(0.1, min(retry_s, time_left_s + 0.1)))

    async def _begin(self, snapshot: JsonObject, vm: JsonObject | None) -> JsonObject | Progress:
        """The content of a snapshot that has none yet, or why it cannot be made now."""
        if vm is None or is_deleting(vm):
            return Progress(NO_SOURCE, f"VirtualMachine {source_key(snapshot)} does not exist; create it", working=False)
        mine, status = snapshot["metadata"]["name"], vm.get("status") or {}
        if status.get("snapshotInProgress") != mine:
            other = status.get("snapshotInProgress") or status.get("restoreInProgress")
            return Progress(NOT_LOCKED, f"{other} of the same machine is made first" if other else "the machine is awaited", working=False)
        volumes = self._volumes.look(vm)
        for volume in volumes:
            if volume.awaited:
                return Progress(WORKING, f"volume {volume.name} cannot be copied: {volume.reason}", is_error=True)
        try:
            content = await self._client.create(CONTENTS, content_of(snapshot, vm, volumes))
        except AlreadyExists:
            return await self._client.get(CONTENTS, Key(snapshot["metadata"]["namespace"], content_name(snapshot)))
        self._events.record(
            snapshot,
            "Normal",
            "SuccessfulVirtualMachineSnapshotContentCreate",
            f"Successfully created VirtualMachineSnapshotContent {content_name(snapshot)}",
        )
        return content

    async def _copy(self, content: JsonObject, guest: Guest | None, time_left_s: float | None) -> tuple[Progress, JsonObject]:
        """Make the copies of all volumes. Returns how far that is, and the content as stored."""
        namespace = content["metadata"]["namespace"]
        backups = content["spec"].get("volumeBackups") or []
        keys = [Key(namespace, backup["volumeSnapshotName"]) for backup in backups]
        copies = [copy for key in keys if (copy := self._copies.get(key)) is not None]
        names = {copy["metadata"]["name"] for copy in copies}
        await share_revisions(self._client, content["spec"]["source"]["virtualMachine"]["spec"], CONTENTS, content)
        quiet = guest if guest is not None and guest.agent else None
        try:
            if any(is_deleting(copy) for copy in copies):
                return Progress(WORKING, "copies that are not of one moment are being removed"), content
            if copies and quiet is not None and not await quiet.is_frozen():
                await asyncio.gather(*(self._discard(copy) for copy in copies))
                return Progress(WORKING, "the guest did not hold still, so the copies are made again"), content
            missing = [backup for backup in backups if backup["volumeSnapshotName"] not in names]
            if missing and quiet is not None:
                await quiet.freeze(time_left_s)
        except (MachineRefusal, TimedOut) as e:
            why = f"the guest's file systems cannot be held still: {format_chain(e)}"
            stored = await write_status(self._client, CONTENTS, content, content_status(content, copies, [], why))
            return Progress(WORKING, why, is_error=True), stored
        if (missing or not backups) and not await self._keep_state(content):
            return Progress(WORKING, "the content is made"), content
        copies += await asyncio.gather(*(self._make_copy(content, backup) for backup in missing))
        status = content_status(content, copies, [])
        whole = all((copy.get("status") or {}).get("creationTime") for copy in copies)
        if whole:
            status["creationTime"] = format_time()
        stored = await write_status(self._client, CONTENTS, content, status)
        if whole and quiet is not None:
            await quiet.thaw()
        message = (status.get("error") or {}).get("message") or "the volumes are being copied"
        return Progress(WORKING, message, is_error="error" in status), stored

    async def _keep_state(self, content: JsonObject) -> bool:
        """Copy what firmware and TPM keep; False when that has to wait.

        The sweep of such files reads the same cache, and must know the content before there are any.
        """
        machine, kept = content["spec"]["source"]["virtualMachine"]["metadata"]["uid"], content["metadata"]["uid"]
        if not await on_disk(has_kept, self._cloud, machine):
            return True
        if self._contents.get(Key.of(content)) is None:
            return False
        await finish_on_disk(copy_kept, self._cloud, machine, kept)
        return True

    async def _make_copy(self, content: JsonObject, backup: JsonObject) -> JsonObject:
        wanted = volume_snapshot_of(content, backup)
        try:
            return await self._client.create(VOLUME_SNAPSHOTS, wanted)
        except AlreadyExists:
            return await self._client.get(VOLUME_SNAPSHOTS, Key.of(wanted))

    async def _discard(self, copy: JsonObject) -> None:
        await self._client.ensure_absent(VOLUME_SNAPSHOTS, Key.of(copy), uid=copy["metadata"]["uid"])

    async def _keep(self, snapshot: JsonObject) -> Result:
        """A snapshot that is made stays true: copies that somebody has deleted are told of."""
        content = self._content(snapshot)
        if content is not None:
            namespace = content["metadata"]["namespace"]
            keys = [Key(namespace, backup["volumeSnapshotName"]) for backup in content["spec"].get("volumeBackups") or ()]
            copies = [copy for key in keys if (copy := self._copies.get(key)) is not None]
            missing = [key.name for key in keys if self._copies.get(key) is None]
            status = content_status(content, copies, missing)
            if "error" in status and "error" not in (content.get("status") or {}):
                self._events.record(content, "Warning", "VolumeSnapshotMissing", status["error"]["message"])
            content = await write_status(self._client, CONTENTS, content, status)
        await self._report(snapshot, self._machine(snapshot), content, Progress("Operation complete", ""))
        return Done()

    async def _give_up(self, snapshot: JsonObject) -> Result:
        """A snapshot that has failed holds nothing, and its guest goes on."""
        content = self._content(snapshot)
        await self._release(snapshot, content)
        if content is not None and not is_deleting(content) and deletes_content(snapshot, content):
            await self._client.ensure_absent(CONTENTS, Key.of(content), uid=content["metadata"]["uid"])
        return Done()

    async def _delete(self, snapshot: JsonObject) -> Result:
        if not has_finalizer(snapshot, FINALIZER):
            return Done()
        content = self._content(snapshot)
        await self._release(snapshot, content)
        if content is not None and deletes_content(snapshot, content):
            await self._client.ensure_absent(CONTENTS, Key.of(content), uid=content["metadata"]["uid"])
            return Waiting("ContentIsDeleted", f"content {content['metadata']['name']} is being removed", LOOK_AGAIN_S)
        await remove_finalizer(self._client, SNAPSHOTS, snapshot, FINALIZER)
        return Done()

    async def _release(self, snapshot: JsonObject, content: JsonObject | None) -> None:
        """Thaw the guest of a snapshot that was being made."""
        if content is not None and not (content.get("status") or {}).get("creationTime"):
            guest = self._guest(self._machine(snapshot))
            if guest is not None:
                await guest.thaw()

    async def _report(
        self,
        snapshot: JsonObject,
        vm: JsonObject | None,
        content: JsonObject | None,
        progress: Progress,
        *,
        indications: list[str] | tuple[str, ...] = (),
        failed: bool = False,
    ) -> JsonObject:
        status = snapshot_status(snapshot, vm=vm, content=content, progress=progress, indications=indications, failed=failed)
        before = (snapshot.get("status") or {}).get("phase")
        stored = await write_status(self._client, SNAPSHOTS, snapshot, status)
        if status["phase"] != before and status["phase"] == "Failed":
            self._events.record(snapshot, "Warning", "SnapshotFailed", (status.get("error") or {}).get("message") or progress.message)
        return stored

    def _content(self, snapshot: JsonObject) -> JsonObject | None:
        return self._contents.get(Key(snapshot["metadata"]["namespace"], content_name(snapshot)))

    def _machine(self, snapshot: JsonObject) -> JsonObject | None:
        """The machine that the snapshot is of; one that was made later under its name is another one."""
        vm = self._machines.get(source_key(snapshot))
        uid = (snapshot.get("status") or {}).get("sourceUID")
        return vm if vm is not None and uid in (None, vm["metadata"]["uid"]) else None

    def _guest(self, vm: JsonObject | None) -> Guest | None:
        vmi = self._instances.get(Key.of(vm)) if vm is not None else None
        return self._quiesce.find(vmi) if vm is not None and vmi is not None and is_controlled_by(vmi, vm) else None
