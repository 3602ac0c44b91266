"""Fills claims. A pass only looks at the filling, which runs beside it, and writes how it stands to the claim's annotations.

A finalizer keeps the claim, and so its volume, until nothing writes to it any more. What is on the way lies below `<home>/imports`, in a
folder for each claim, which goes with the filling's end or with the claim.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError, format_chain
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.providers.cdi.config import Configuration
from pilvi.providers.cdi.kinds import (
    CLAIMS,
    PHASE,
    PREALLOCATION,
    PROGRESS,
    READY,
    RESTARTS,
    RUNNING,
    RUNNING_MESSAGE,
    RUNNING_REASON,
)
from pilvi.providers.cdi.population.fills import Fill, Fills
from pilvi.providers.cdi.population.work import Source, Upload, Volume, fill
from pilvi.providers.cdi.sources import Missing, Sources
from pilvi.providers.claims import POPULATED, VOLUME, annotations_of, claim_volume, is_populated, needs_population, volume_file
from pilvi.runtime import Done, Failed, RequeueAfter, Result, Waiting, ensure_finalizer, has_finalizer, is_deleting, remove_finalizer
from pilvi.transfer import find_received

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["FINALIZER", "Populations", "overall_progress"]

FINALIZER = "pilvi.dev/population"

LOOK_AGAIN_S = 2.0
MISSING_S = 5.0

# Where each step begins and ends, in percent of the whole; copying and allocating say nothing of themselves.
_STEPS = {"pulling": (0, 85), "downloading": (0, 70), "checking": (70, 75), "unpacking": (75, 85), "converting": (85, 100)}


class Populations:
    """The reconciler of claims that something fills."""

    def __init__(self, platform: Platform, sources: Sources, configuration: Configuration, fills: Fills) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._claims = platform.informers.get(CLAIMS)
        self._sources = sources
        self._configuration = configuration
        self._fills = fills
        self._imports = platform.cloud.home / "imports"

    async def run(self) -> None:
        """Remove what claims that are gone have left, then run the fillings until cancelled."""
        known = {claim["metadata"]["uid"] for claim in self._claims.list()}
        for folder in await on_disk(_folders, self._imports):
            if folder.name not in known:
                await on_disk(remove_tree, folder)
        await self._fills.run()

    async def reconcile(self, key: Key) -> Result:
        """One pass for the claim `key`."""
        claim = self._claims.get(key)
        uid = claim["metadata"]["uid"] if claim is not None else ""
        for other in self._fills.uids_of(key):
            if other != uid:
                await self._clear(other)
        if claim is None:
            return Done()
        if is_deleting(claim) or is_populated(claim) or annotations_of(claim).get(PHASE) == "Failed":
            if has_finalizer(claim, FINALIZER) or self._fills.find(uid) is not None:
                await self._clear(uid)
                await remove_finalizer(self._client, CLAIMS, claim, FINALIZER)
            return Done()
        if not needs_population(claim) or VOLUME not in annotations_of(claim):
            return Done()
        return await self._fill(claim, uid)

    async def _fill(self, claim: JsonObject, uid: str) -> Result:
        claim = await ensure_finalizer(self._client, CLAIMS, claim, FINALIZER)
        under_way = self._fills.find(uid)
        if under_way is None:
            try:
                source = await self._sources.find(claim)
            except UserError as e:
                source = Missing("SourceInvalid", format_chain(e))
            if isinstance(source, Missing):
                await self._write(claim, _running(False, source.reason, source.message))
                return Waiting(source.reason, source.message, MISSING_S)
            if isinstance(source, Upload) and await on_disk(find_received, self._imports / uid) is None:
                return await self._await_upload(claim)
            under_way = self._start(claim, uid, source)
        if under_way.refused and under_way.uploaded:
            self._events.record(claim, "Warning", "TransferRefused", under_way.refused)
            await self._clear(uid)
            await self._write(claim, _running(False, "TransferRefused", under_way.refused))
            return RequeueAfter(LOOK_AGAIN_S)
        if under_way.refused:
            return await self._refuse(claim, under_way.refused)
        if under_way.done is not None:
            whole = {POPULATED: "true", PHASE: "Succeeded", PROGRESS: "100.0%", **under_way.done}
            if under_way.uploaded:
                whole[READY] = "false"
            await self._write(claim, {**whole, **_running(False, "Completed", "the data are whole")})
            return Done()
        told = {PHASE: "Running", PROGRESS: overall_progress(under_way), RESTARTS: str(under_way.restarts)}
        if not under_way.trouble:
            await self._write(claim, {**told, **_running(True, "TransferRunning", under_way.meter.step or "waiting for its turn")})
            return RequeueAfter(LOOK_AGAIN_S)
        reason = "NoSpace" if under_way.full else "TransferFailed"
        if annotations_of(claim).get(RUNNING_MESSAGE) != under_way.trouble:
            self._events.record(claim, "Warning", reason, under_way.trouble)
        await self._write(claim, {**told, **_running(False, reason, under_way.trouble)})
        return RequeueAfter(LOOK_AGAIN_S)

    async def _await_upload(self, claim: JsonObject) -> Result:
        """The upload proxy puts what a client sends into the workspace, where the next pass finds it."""
        told = {PHASE: "Running", READY: "true"}
        if annotations_of(claim).get(RUNNING_REASON) != "TransferRefused":
            told |= _running(True, "UploadReady", "an upload is awaited, for example: virtctl image-upload")
        await self._write(claim, told)
        return RequeueAfter(LOOK_AGAIN_S)

    def _start(self, claim: JsonObject, uid: str, source: Source) -> Fill:
        asked = annotations_of(claim).get(PREALLOCATION)
        preallocate = asked == "true" if asked is not None else self._configuration.preallocates()
        volume = Volume(volume_file(self._cloud, claim_volume(claim)), preallocate)
        before = annotations_of(claim).get(RESTARTS, "0")
        restarts = int(before) if before.isascii() and before.isdigit() else 0
        under_way = self._fills.start(uid, Key.of(claim), partial(fill, source, volume, self._imports / uid), restarts)
        under_way.uploaded = isinstance(source, Upload)
        return under_way

    async def _refuse(self, claim: JsonObject, message: str) -> Result:
        """For good: the same source would give the same. The next pass clears what is left."""
        self._events.record(claim, "Warning", "TransferRefused", message)
        await self._write(claim, {PHASE: "Failed", **_running(False, "TransferRefused", message)})
        return Failed(message, permanent=True)

    async def _clear(self, uid: str) -> None:
        await self._fills.stop(uid)
        await on_disk(remove_tree, self._imports / uid)

    async def _write(self, claim: JsonObject, told: dict[str, str]) -> None:
        held = annotations_of(claim)
        changed = {name: value for name, value in told.items() if held.get(name) != value}
        if changed:
            guard = {"uid": claim["metadata"]["uid"], "resourceVersion": claim["metadata"]["resourceVersion"]}
            await self._client.patch(CLAIMS, Key.of(claim), {"metadata": {**guard, "annotations": changed}})


def overall_progress(under_way: Fill) -> str:
    """The share of all steps that is through, as `45.0%`; `N/A` while nobody knows it."""
    span, share = _STEPS.get(under_way.meter.step), under_way.meter.share
    if span is None or share is None:
        return "N/A"
    return f"{span[0] + (span[1] - span[0]) * share:.1f}%"


def _running(running: bool, reason: str, message: str) -> dict[str, str]:
    return {RUNNING: str(running).lower(), RUNNING_REASON: reason, RUNNING_MESSAGE: message}


def _folders(path: Path) -> list[Path]:
    """What is in the root of all workspaces, which is made when it is not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [*path.iterdir()]
