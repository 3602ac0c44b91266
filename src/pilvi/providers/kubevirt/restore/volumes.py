"""The new claims of a restore: made from the snapshot's copies, in the places of the old ones where that is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, UserError
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.restore.plan import OWNED_LATER, PREPOPULATED, claim_of, is_from, is_in_place
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLASSES, DATA_VOLUMES, VOLUME_SNAPSHOTS
from pilvi.runtime import is_deleting, owner_reference

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["RestoredVolumes"]


class RestoredVolumes:
    """Makes, awaits and lets go the claims of restores. Every method may be called repeatedly."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._claims = platform.informers.get(CLAIMS)
        self._classes = platform.informers.get(CLASSES)
        self._copies = platform.informers.get(VOLUME_SNAPSHOTS)
        self._data_volumes = platform.informers.get(DATA_VOLUMES)

    async def ensure(self, restore: JsonObject, content: JsonObject, vm: JsonObject | None) -> list[str]:
        """One step nearer to all claims of `status.restores`; what is awaited, empty when all are there. Raises UserError."""
        steps = [await self._ensure_one(restore, content, entry, vm) for entry in restore["status"]["restores"]]
        return [step for step in steps if step]

    async def _ensure_one(self, restore: JsonObject, content: JsonObject, entry: JsonObject, vm: JsonObject | None) -> str:
        key = Key(restore["metadata"]["namespace"], entry["persistentVolumeClaim"])
        claim = self._claims.get(key)
        if claim is None:
            return await self._make(restore, content, entry, vm)
        if not is_from(restore, claim):
            if not is_in_place(restore):
                raise UserError(f"claim {key} is there already", hint="delete it, or make a restore with another name for it")
            if not is_deleting(claim):
                await self._make_room(entry, claim)
            return f"the old claim {key.name} is being removed"
        phase = (claim.get("status") or {}).get("phase")
        if phase == "Bound" or (phase == "Pending" and self._waits_for_consumer(claim)):
            return ""
        return f"claim {key.name} is {phase or 'new'}"

    async def _make(self, restore: JsonObject, content: JsonObject, entry: JsonObject, vm: JsonObject | None) -> str:
        namespace = restore["metadata"]["namespace"]
        copy = self._copies.get(Key(namespace, entry["volumeSnapshotName"]))
        if copy is None:
            raise UserError(f"VolumeSnapshot {entry['volumeSnapshotName']} is gone, and its data", hint="restore another snapshot")
        owner = self._data_volumes.get(Key(namespace, entry["dataVolumeName"])) if entry.get("dataVolumeName") else None
        size = (copy.get("status") or {}).get("restoreSize")
        claim = claim_of(restore, content, entry, size=size, vm=vm, data_volume=owner)
        with contextlib.suppress(AlreadyExists):  # the cache is behind; the next pass sees whose it is
            await self._client.create(CLAIMS, claim)
        return f"claim {entry['persistentVolumeClaim']} is made"

    async def _make_room(self, entry: JsonObject, claim: JsonObject) -> None:
        """Delete a claim in whose place a new one comes. Its DataVolume is told first, which would make and fill another one."""
        key = Key.of(claim)
        data_volume = self._data_volumes.get(Key(key.namespace, entry.get("dataVolumeName") or ""))
        if data_volume is not None:
            change: JsonObject = {"metadata": {"uid": data_volume["metadata"]["uid"], "annotations": {PREPOPULATED: key.name}}}
            await self._client.patch(DATA_VOLUMES, Key.of(data_volume), change)
        await self._client.ensure_absent(CLAIMS, key, uid=claim["metadata"]["uid"])

    def _waits_for_consumer(self, claim: JsonObject) -> bool:
        storage_class = self._classes.get(Key("", claim["spec"].get("storageClassName") or "")) or {}
        return storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"

    async def give_to(self, restore: JsonObject, vm: JsonObject) -> None:
        """Let those claims belong to the machine that could not yet when they were made."""
        for claim in self._made_by(restore):
            metadata = claim["metadata"]
            if metadata.get("ownerReferences") or (metadata.get("annotations") or {}).get(OWNED_LATER) != restore["metadata"]["name"]:
                continue
            owner = owner_reference({"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, **vm})
            change: JsonObject = {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "ownerReferences": [owner],
                "annotations": {OWNED_LATER: None},
            }
            await self._client.patch(CLAIMS, Key.of(claim), {"metadata": change})

    async def let_go(self, restore: JsonObject) -> None:
        """Remove the claims of a restore that no machine uses yet. What was made in the place of old ones stays: those are gone."""
        if not is_in_place(restore):
            for claim in self._made_by(restore):
                await self._client.ensure_absent(CLAIMS, Key.of(claim), uid=claim["metadata"]["uid"])

    def _made_by(self, restore: JsonObject) -> list[JsonObject]:
        return [claim for claim in self._claims.list(restore["metadata"]["namespace"]) if is_from(restore, claim)]
