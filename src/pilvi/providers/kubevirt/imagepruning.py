"""Has the store of images forget what no machine names any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilvi.api.resource import JsonObject
from pilvi.errors import format_chain
from pilvi.images import Reference
from pilvi.providers.kubevirt.instance.volumes.named import image_references
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["ImagePruning"]

log = logging.getLogger(__name__)

# Not at once: an engine that starts has better things to do.
_FIRST_S, _EVERY_S = 600.0, 3600.0


class ImagePruning:
    """Looks every hour. `run` has to run."""

    def __init__(self, platform: Platform) -> None:
        self._store = platform.images
        self._machines = platform.informers.get(MACHINES)
        self._instances = platform.informers.get(INSTANCES)

    async def run(self) -> None:
        """Ends only by cancellation."""
        await asyncio.sleep(_FIRST_S)
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Remove what nothing has named for a day. Waits until both caches have listed: empty ones prove nothing."""
        await self._machines.synced.wait()
        await self._instances.synced.wait()
        try:
            for name in await self._store.prune(set(self._wanted())):
                log.info("image file %s is removed: no machine names it", name)
        except OSError as e:
            log.warning("images are not pruned: %s", format_chain(e))

    def _wanted(self) -> Iterator[Reference]:
        for machine in self._machines.list():
            template: JsonObject = (machine.get("spec") or {}).get("template") or {}
            yield from image_references(template.get("spec") or {})
        for instance in self._instances.list():
            yield from image_references(instance.get("spec") or {})
