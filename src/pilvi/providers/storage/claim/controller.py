"""Makes the volume of a claim, and grows it with its claim.

The order of things, each step found done after an engine's death: the file (a copy of another disk, or empty), what CDI puts into it,
the PersistentVolume that names the claim. Kubernetes then binds the two, so a claim is Bound only when its data are whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, UserError, format_chain
from pilvi.lib.disk import on_disk
from pilvi.providers.claims import VOLUME, annotations_of, find_volume, is_populated, needs_population, volume_file
from pilvi.providers.status import write_status
from pilvi.providers.storage import files
from pilvi.providers.storage.claim.expansion import Expansion
from pilvi.providers.storage.claim.plan import Plan, is_ours, plan_volume, volume_of
from pilvi.providers.storage.copies import Copies
from pilvi.providers.storage.kinds import CLAIMS, CLASSES, PROVISIONED, VOLUMES
from pilvi.providers.storage.sources import Awaited, Sources
from pilvi.runtime import Done, Result, Waiting, condition, conditions_of, find_condition, is_deleting, merge_conditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilvi.providers.platform import Platform

__all__ = ["Claims"]

LOOK_AGAIN_S = 30.0


class Claims:
    """The reconciler of claims. `wake` is set to the controller's `enqueue`."""

    def __init__(self, platform: Platform, sources: Sources, copies: Copies) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._claims = informers.get(CLAIMS)
        self._classes = informers.get(CLASSES)
        self._volumes = informers.get(VOLUMES)
        self._sources = sources
        self._copies = copies
        self._expansion = Expansion(platform)
        self.wake: Callable[[Key], None] = lambda _key: None

    async def reconcile(self, key: Key) -> Result:
        """One pass for the claim `key`."""
        claim = self._claims.get(key)
        if claim is None or is_deleting(claim):
            return Done()
        if claim["spec"].get("volumeName"):
            return await self._bound(claim)
        storage_class = self._classes.get(Key("", claim["spec"].get("storageClassName") or ""))
        if storage_class is None or not is_ours(claim, storage_class):
            return Done()
        try:
            plan = plan_volume(claim, storage_class)
            awaited = await self._make_file(claim, plan)
        except UserError as e:
            # A claim's spec cannot change, but what it names can come, and the disk can be given room.
            return await self._wait(claim, Awaited("ProvisioningFailed", format_chain(e)), warn=True)
        if awaited is not None:
            return await self._wait(claim, awaited, warn=awaited.reason in ("NoPopulator", "CopyFailed"))
        if not is_populated(claim):
            if annotations_of(claim).get(VOLUME) != plan.folder:
                await self._client.patch(CLAIMS, key, {"metadata": {**_guard(claim), "annotations": {VOLUME: plan.folder}}})
            return Done()
        if self._volumes.get(Key("", plan.folder)) is None:
            try:
                await self._client.create(VOLUMES, volume_of(claim, plan))
            except AlreadyExists:
                return Done()
            self._events.record(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {plan.folder}")
        await self._tell(claim, None)
        return Done()

    async def _make_file(self, claim: JsonObject, plan: Plan) -> Awaited | None:
        """Make the volume's disk; what is awaited when that takes longer. Raises UserError."""
        disk, key = volume_file(self._cloud, plan.folder), Key.of(claim)
        ended = self._copies.take_ended(disk)
        if await on_disk(files.find_size, disk) is not None:
            if ended is not None:
                self._events.record(claim, "Normal", "Copied", f"the volume's data were copied, by {ended.method}")
            return None
        if ended is not None and ended.error is not None:
            return Awaited("CopyFailed", format_chain(ended.error))
        source = None if needs_population(claim) else self._sources.find(claim, plan)
        if isinstance(source, Awaited):
            return source
        await on_disk(files.room, disk, plan.size_bytes)
        if source is None:
            await files.create(disk, plan.size_bytes)
            return None
        self._copies.begin(source.file, disk, plan.size_bytes, lambda: self.wake(key))
        return Awaited("Copying", f"{source.name} is being copied")

    async def _bound(self, claim: JsonObject) -> Result:
        """A claim that has its volume."""
        volume = self._volumes.get(Key("", claim["spec"]["volumeName"]))
        folder = find_volume(volume) if volume is not None else None
        if volume is None or folder is None or (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
            return Done()
        disk = volume_file(self._cloud, folder)
        if await on_disk(files.find_size, disk) is None:
            lost = Awaited("VolumeLost", f"the disk {disk} is gone; put it back, or delete the claim and make a new one")
            return await self._wait(claim, lost, warn=True)
        claim = await self._tell(claim, None)
        return await self._expansion.expand(claim, volume, disk)

    async def _wait(self, claim: JsonObject, awaited: Awaited, *, warn: bool) -> Result:
        before = find_condition(claim, PROVISIONED) or {}
        if warn and before.get("message") != awaited.message:
            self._events.record(claim, "Warning", awaited.reason, awaited.message)
        await self._tell(claim, awaited)
        return Waiting(awaited.reason, awaited.message, LOOK_AGAIN_S)

    async def _tell(self, claim: JsonObject, awaited: Awaited | None) -> JsonObject:
        """Say in the claim's conditions what is awaited; None when nothing is. Returns the claim as stored."""
        if awaited is None:
            conditions = [entry for entry in conditions_of(claim) if entry["type"] != PROVISIONED]
        else:
            conditions = merge_conditions(conditions_of(claim), [condition(PROVISIONED, False, awaited.reason, awaited.message)])
        if conditions == conditions_of(claim):
            return claim
        return await write_status(self._client, CLAIMS, claim, {**(claim.get("status") or {}), "conditions": conditions})


def _guard(claim: JsonObject) -> JsonObject:
    return {"uid": claim["metadata"]["uid"], "resourceVersion": claim["metadata"]["resourceVersion"]}
