"""The host user that the units of a control plane run as: recorded on its object before anything belongs to it.

Whoever may write the object may write the annotation too. So it decides only while there is no data: from then on the owner of the data
is the user, and an annotation that says otherwise is corrected. Nobody gets root, the platform's user or another tenant's by asking.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pilvi.api import JsonObject, Key
from pilvi.api.kamaji import TenantControlPlane
from pilvi.errors import UserError
from pilvi.providers.kamaji.names import MANAGER
from pilvi.providers.platform import Platform
from pilvi.providers.uids import UID_ANNOTATION, choose_uid, control_plane_uids, find_uid
from pilvi.tenant import control_plane_dir

__all__ = ["Users", "data_owner"]

RESOURCE = TenantControlPlane.RESOURCE


class Users:
    """The one writer of these annotations."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._tenants = platform.informers.get(RESOURCE)
        self._lock = asyncio.Lock()
        self._given: dict[str, int] = {}  # UID -> host uid, until the cache shows it

    async def ensure(self, tenant: JsonObject) -> tuple[JsonObject, int]:
        """The object with its host uid recorded on it. Raises UserError when the cloud has none left, Conflict."""
        metadata = tenant["metadata"]
        uids = control_plane_uids(self._cloud)
        folder = control_plane_dir(self._cloud, metadata["uid"])
        recorded = find_uid(tenant, uids)
        if recorded is not None and data_owner(folder) == recorded:
            self.forget(metadata["uid"])
            return tenant, recorded
        # One at a time: two that look at the same cache would take the same.
        async with self._lock:
            others = [other for other in self._tenants.list() if other["metadata"]["uid"] != metadata["uid"]]
            given = {uid for other, uid in self._given.items() if other != metadata["uid"]}
            uid = choose_uid(tenant, others, uids, owner=data_owner(folder), taken=given | _owners_beside(folder))
            if uid is None:
                raise UserError(f"all {len(uids)} host uids for control planes are in use", hint="delete a cluster first")
            if uid == recorded:
                return tenant, uid
            self._given[metadata["uid"]] = uid
            guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            body = {"metadata": {**guard, "annotations": {UID_ANNOTATION: str(uid)}}}
            return await self._client.patch(RESOURCE, Key.of(tenant), body, manager=MANAGER), uid

    def forget(self, uid: str) -> None:
        """The cache shows the record of the object with this UID, or it is gone."""
        self._given.pop(uid, None)


def data_owner(folder: Path) -> int | None:
    """Whose the data of a control plane is; None when there is none."""
    try:
        return (folder / "etcd").lstat().st_uid
    except FileNotFoundError:
        return None


def _owners_beside(folder: Path) -> set[int]:
    """Whose the data of all other control planes is, also of those whose object was lost."""
    try:
        found = [other for other in folder.parent.iterdir() if other != folder]
    except FileNotFoundError:
        return set()
    return {owner for other in found if (owner := data_owner(other)) is not None}
