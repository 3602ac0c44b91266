"""A StorageProfile for each storage class: what a DataVolume gets that leaves volume mode or access modes open."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import ClaimPropertySet, StorageProfile
from pilvi.api.object import decode
from pilvi.providers.cdi.kinds import CLASSES, PROFILES
from pilvi.providers.claims import PROVISIONER, annotations_of
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Controller, Done, Result, Watch, owner_reference

__all__ = ["MODES", "choose_properties", "profile_controller", "properties_of"]

MODES = "pilvi.dev/volume-modes"
"""On a StorageClass of pilvi: the volume modes that it has, with commas; both when it does not say."""

# Best first, as upstream: Block before Filesystem, as it has no file system in between; shared before not, for live migration.
_OURS = (
    ClaimPropertySet(["ReadWriteMany"], "Block"),
    ClaimPropertySet(["ReadWriteOnce"], "Block"),
    ClaimPropertySet(["ReadWriteOnce"], "Filesystem"),
)


def properties_of(storage_class: JsonObject, profile: JsonObject | None) -> list[ClaimPropertySet]:
    """The sets in force for a class, best first; empty when neither its profile nor pilvi knows any. Pure."""
    given = decode(StorageProfile, profile).spec.claim_property_sets if profile is not None else []
    if given or storage_class.get("provisioner") != PROVISIONER:
        return given
    modes = annotations_of(storage_class).get(MODES)
    return [entry for entry in _OURS if modes is None or entry.volume_mode in modes.split(",")]


def choose_properties(sets: Sequence[ClaimPropertySet], mode: str | None, access: Sequence[str]) -> ClaimPropertySet | None:
    """The best set that agrees with what is given, completed by it; None when there is none. Pure."""
    if mode and access:
        return ClaimPropertySet([*access], "Block" if mode == "Block" else "Filesystem")
    for entry in sets:
        if (not mode or entry.volume_mode == mode) and set(access) <= set(entry.access_modes):
            return ClaimPropertySet([*access] or entry.access_modes, entry.volume_mode)
    return None


def profile_controller(platform: Platform) -> Controller:
    """The controller that makes the profiles and keeps their status."""
    client, profiles, classes = platform.client, platform.informers.get(PROFILES), platform.informers.get(CLASSES)

    async def reconcile(key: Key) -> Result:
        storage_class = classes.get(key)
        if storage_class is None:
            return Done()  # the garbage collector takes the profile
        profile = profiles.get(key)
        if profile is None:
            owner = {"ownerReferences": [owner_reference(storage_class)]}
            profile = await client.create(PROFILES, PROFILES.new(key, metadata=owner, spec={}))
        ours = storage_class.get("provisioner") == PROVISIONER
        status: JsonObject = {
            "storageClass": key.name,
            "provisioner": storage_class.get("provisioner"),
            "claimPropertySets": msgspec.to_builtins(properties_of(storage_class, profile)),
        }
        if ours:
            status["cloneStrategy"] = "csi-clone"
        await write_status(client, PROFILES, profile, status)
        return Done()

    return Controller("storageprofile", CLASSES, reconcile, watches=[Watch(PROFILES, lambda profile: [Key.of(profile)])], concurrency=1)
