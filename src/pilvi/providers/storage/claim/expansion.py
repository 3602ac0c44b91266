"""Grows the volume of a claim that asks for more. Conditions and events as external-resizer's.

There is no step on the node: a machine sees the new size as soon as its disk is told (`kubevirt/`). A claim that asks for less than it
has is refused by the API server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError, format_chain
from pilvi.lib.quantity import format_bytes, quantity_bytes
from pilvi.providers.status import write_status
from pilvi.providers.storage import files
from pilvi.providers.storage.claim.plan import round_up
from pilvi.providers.storage.kinds import CLAIMS, VOLUMES
from pilvi.runtime import Done, Result, Waiting, condition, conditions_of, merge_conditions

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Expansion"]

RESIZE_FAILED = "ControllerResizeError"


class Expansion:
    """Grows files, then PersistentVolumes, then says so on the claims."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events

    async def expand(self, claim: JsonObject, volume: JsonObject, disk: Path) -> Result:
        """Make the volume as large as its claim asks, and the claim say how large it is. A larger volume is left alone."""
        status = claim.get("status") or {}
        if status.get("phase") != "Bound":
            return Done()
        has = quantity_bytes(volume["spec"]["capacity"]["storage"])
        asked = quantity_bytes(claim["spec"]["resources"]["requests"]["storage"])
        capacity = volume["spec"]["capacity"]["storage"]
        if asked > has:
            capacity = format_bytes(round_up(asked))
            try:
                await files.grow(disk, round_up(asked))
            except UserError as e:
                return await self._refuse(claim, format_chain(e))
            guard = {"uid": volume["metadata"]["uid"], "resourceVersion": volume["metadata"]["resourceVersion"]}
            await self._client.patch(VOLUMES, Key.of(volume), {"metadata": guard, "spec": {"capacity": {"storage": capacity}}})
        told = (status.get("capacity") or {}).get("storage", 0)
        conditions = [entry for entry in conditions_of(claim) if entry["type"] != RESIZE_FAILED]
        if quantity_bytes(told) >= quantity_bytes(capacity) and conditions == conditions_of(claim):
            return Done()
        new = {**status, "capacity": {**(status.get("capacity") or {}), "storage": capacity}, "conditions": conditions}
        await write_status(self._client, CLAIMS, claim, new)
        self._events.record(claim, "Normal", "VolumeResizeSuccessful", f"Resize volume succeeded: {capacity}")
        return Done()

    async def _refuse(self, claim: JsonObject, message: str) -> Result:
        told = [condition(RESIZE_FAILED, True, "NoSpace", message)]
        conditions = merge_conditions(conditions_of(claim), told)
        if conditions != conditions_of(claim):
            self._events.record(claim, "Warning", "VolumeResizeFailed", message)
            await write_status(self._client, CLAIMS, claim, {**(claim.get("status") or {}), "conditions": conditions})
        return Waiting("VolumeResizeFailed", message)
