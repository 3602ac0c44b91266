"""Disks of claims: from the name of a claim to the file of its volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError
from pilvi.providers.claims import find_volume, volume_file
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.volumes.claim import NamedClaim, find_claim, is_only_read
from pilvi.providers.kubevirt.instance.volumes.holders import DiskHolders
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.volumes import VolumeDisk

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["ClaimDisks", "find_claim"]


class ClaimDisks:
    """Resolves volumes that name a claim or a DataVolume."""

    def __init__(self, cloud: Cloud, caches: Caches) -> None:
        self._cloud = cloud
        self._claims = caches.claims
        self._volumes = caches.volumes
        self.holders = DiskHolders(caches.instances)

    def check(self, scope: Scope) -> None:
        """Raises VolumeNotReady when a claim of the instance does not exist or is not bound; those that do not exist come first."""
        names = [named.name for volume in scope.vmi["spec"].get("volumes") or [] if (named := find_claim(volume)) is not None]
        claims = [self._get(Key(scope.key.namespace, name)) for name in names]
        for claim in claims:
            self._get_bound(claim)

    def resolve(self, scope: Scope, name: str, named: NamedClaim) -> VolumeDisk:
        """The disk, which is the instance's from now on.

        Raises VolumeNotReady until the claim is bound, which is when its data are whole, and while another instance has it; UserError for
        a foreign volume.
        """
        key = Key(scope.key.namespace, named.name)
        claim = self._get(key)
        volume = self._get_bound(claim)
        folder = find_volume(volume)
        reference = (volume.get("spec") or {}).get("claimRef") or {}
        if folder is None or reference.get("uid") != claim["metadata"]["uid"]:
            raise UserError(f"PersistentVolumeClaim {key} is not on a volume of this cloud", hint="use one of `kubectl get storageclasses`")
        path = volume_file(self._cloud, folder)
        try:
            size_bytes = path.stat().st_size
        except FileNotFoundError as e:
            raise UserError(f"the disk of PersistentVolumeClaim {key} is gone from {path.parent}", hint="restore it from a backup") from e
        if not named.dump:  # what is written to is looked at before each dump
            self.holders.take(scope.vmi, claim)
        return VolumeDisk(name, path, size_bytes, named.read_only or is_only_read(claim), named.ephemeral)

    def _get(self, key: Key) -> JsonObject:
        claim = self._claims.get(key)
        if claim is None:
            raise VolumeNotReady("FailedPvcNotFound", f"PersistentVolumeClaim {key} does not exist", failed=True)
        return claim

    def _get_bound(self, claim: JsonObject) -> JsonObject:
        volume = self._volumes.get(Key("", (claim.get("spec") or {}).get("volumeName") or ""))
        if volume is None or (claim.get("status") or {}).get("phase") != "Bound":
            key = Key.of(claim)
            raise VolumeNotReady("PVCNotBound", f"PersistentVolumeClaim {key} is not bound yet; `pilvi why pvc/{key}` says why")
        return volume
