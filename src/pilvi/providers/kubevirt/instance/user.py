"""The host user that a machine's process runs as: recorded on its instance before the process starts.

Nothing on the disk belongs to it, since a machine's files are opened for it. So it may be another at the next start, and the
annotation of an instance that was copied from another one is corrected.
"""

from __future__ import annotations

import asyncio

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instance.scope import Caches
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.platform import Platform
from pilvi.providers.uids import UID_ANNOTATION, choose_uid, find_uid, machine_uids

__all__ = ["MachineUsers"]


class MachineUsers:
    """The one writer of these annotations."""

    def __init__(self, platform: Platform, caches: Caches) -> None:
        self._client = platform.client
        self._uids = machine_uids(platform.cloud)
        self._instances = caches.instances
        self._lock = asyncio.Lock()
        self._given: dict[str, int] = {}  # UID -> host uid, until the cache shows it

    async def ensure(self, vmi: JsonObject) -> int:
        """The host uid of `vmi`, recorded on it. Raises UserError when the cloud has none left, Conflict."""
        metadata = vmi["metadata"]
        # One at a time: two that look at the same cache would take the same.
        async with self._lock:
            others = [other for other in self._instances.list() if other["metadata"]["uid"] != metadata["uid"]]
            present = {other["metadata"]["uid"] for other in others}
            self._given = {owner: uid for owner, uid in self._given.items() if owner in present or owner == metadata["uid"]}
            given = {uid for owner, uid in self._given.items() if owner != metadata["uid"]}
            uid = choose_uid(vmi, others, self._uids, taken=given)
            if uid is None:
                raise UserError(f"all {len(self._uids)} host uids for machines are in use", hint="delete a machine first")
            if uid != find_uid(vmi, self._uids):
                self._given[metadata["uid"]] = uid
                guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
                await self._client.patch(INSTANCES, Key.of(vmi), {"metadata": {**guard, "annotations": {UID_ANNOTATION: str(uid)}}})
            return uid
