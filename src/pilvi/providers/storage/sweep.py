"""Removes folders below `<home>/volumes` that nothing in the API stands for: of claims that were deleted before they had a volume, and what
is left of a PersistentVolume whose finalizer somebody took off.

Only folders whose names we gave are looked at, and never one that is kept on purpose. A cache that lags could miss an object that is
new, so before anything is removed the API itself is asked.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject
from pilvi.errors import PilviError, format_chain
from pilvi.lib.disk import on_disk
from pilvi.providers.claims import claim_volume, find_volume, volume_file
from pilvi.providers.storage import files
from pilvi.providers.storage.copies import Copies
from pilvi.providers.storage.kinds import CLAIMS, CONTENTS, VOLUMES

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Sweep", "find_used"]

log = logging.getLogger(__name__)

AGAIN_S = 600.0
SETTLE_S = 0.2
_OURS = re.compile(r"(pvc|snapshot)-.+")


class Sweep:
    """Looks whenever something that may have had a folder is gone, and now and then."""

    def __init__(self, platform: Platform, copies: Copies) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._informers = [platform.informers.get(resource) for resource in (CLAIMS, VOLUMES, CONTENTS)]
        self._copies = copies

    async def run(self) -> None:
        """Sweep until cancelled. The caches have to be synced."""
        # The root of all volumes is there before the first of them, and stays.
        await on_disk(files.make_folder, self._cloud.home / "volumes")
        gone = asyncio.Event()
        gone.set()

        def note(_old: JsonObject | None, new: JsonObject | None) -> None:
            if new is None:
                gone.set()

        stops = [informer.subscribe(note) for informer in self._informers]
        try:
            while True:
                try:
                    async with asyncio.timeout(AGAIN_S):
                        await gone.wait()
                except TimeoutError:
                    pass
                await asyncio.sleep(SETTLE_S)  # a claim goes, and its volume a moment later
                gone.clear()
                try:
                    await self.sweep()
                except (PilviError, OSError) as e:
                    log.warning("folders of volumes that are gone stay for now: %s", format_chain(e))
        finally:
            for stop in stops:
                stop()

    async def sweep(self) -> None:
        """Look once. Raises what the API and the disk may."""
        folders = [name for name in await on_disk(files.list_folders, self._cloud.home / "volumes") if _OURS.fullmatch(name)]
        cached = find_used(obj for informer in self._informers for obj in informer.list())
        if {*folders} <= cached:
            return
        stored = [obj for resource in (CLAIMS, VOLUMES, CONTENTS) for obj in await self._client.list(resource)]
        for name in folders:
            if name not in cached | find_used(stored):
                disk = volume_file(self._cloud, name)
                await self._copies.stop(disk)
                await on_disk(files.remove, disk.parent)
                log.info("removed folder %s of a volume that is gone", name)


def find_used(objects: Iterable[JsonObject]) -> set[str]:
    """The folders that claims, PersistentVolumes and VolumeSnapshotContents stand for. Pure."""
    used = set()
    for obj in objects:
        folder = claim_volume(obj) if obj["kind"] == CLAIMS.kind else find_volume(obj)
        if folder is not None:
            used.add(folder)
    return used
