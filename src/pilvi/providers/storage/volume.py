"""PersistentVolumes of ours: what becomes of their data when they are let go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.lib.disk import on_disk
from pilvi.providers.claims import PROVISIONER, find_volume, volume_file
from pilvi.providers.storage import files
from pilvi.providers.storage.claim.plan import FINALIZER
from pilvi.providers.storage.kinds import VOLUMES
from pilvi.runtime import Done, Result, ensure_finalizer, has_finalizer, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Volumes"]

# Kubernetes' own: no claim is bound to the volume any more when it is off.
IN_USE = "kubernetes.io/pv-protection"


class Volumes:
    """The reconciler of PersistentVolumes."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._volumes = platform.informers.get(VOLUMES)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the volume `key`."""
        volume = self._volumes.get(key)
        folder = find_volume(volume) if volume is not None else None
        if volume is None or folder is None or (volume["spec"].get("csi") or {}).get("driver") != PROVISIONER:
            return Done()
        if is_deleting(volume):
            if has_finalizer(volume, FINALIZER) and not has_finalizer(volume, IN_USE):
                await self._let_go(volume, folder)
                await remove_finalizer(self._client, VOLUMES, volume, FINALIZER)
            return Done()
        volume = await ensure_finalizer(self._client, VOLUMES, volume, FINALIZER)
        policy, phase = volume["spec"].get("persistentVolumeReclaimPolicy"), (volume.get("status") or {}).get("phase")
        if policy == "Delete" and phase in ("Released", "Failed"):
            await self._client.ensure_absent(VOLUMES, key, uid=volume["metadata"]["uid"])
        return Done()

    async def _let_go(self, volume: JsonObject, folder: str) -> None:
        """Remove the data, or note that they are kept; another PersistentVolume that names them keeps them as well."""
        path = volume_file(self._cloud, folder).parent
        if any(find_volume(other) == folder for other in self._volumes.list() if other is not volume):
            return
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await on_disk(files.remove, path)
        else:
            claim = volume["spec"].get("claimRef") or {}
            why = f"volume of claim {claim.get('namespace')}/{claim.get('name')}, kept since its reclaim policy is Retain"
            await on_disk(files.keep, path, why)
