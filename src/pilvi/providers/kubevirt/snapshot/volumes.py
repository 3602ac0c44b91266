"""Which volumes of a machine can be copied. Reads caches only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.claims import PROVISIONER
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLASSES

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["MachineVolume", "MachineVolumes", "volumes_of"]


@dataclass(frozen=True)
class MachineVolume:
    """A volume of a machine. `claim` is what is copied; without one, `reason` says why it is not, and `awaited` whether that may change."""

    name: str
    claim: JsonObject | None = None
    reason: str = ""
    awaited: bool = False


class MachineVolumes:
    """Looks at the claims of machines."""

    def __init__(self, platform: Platform) -> None:
        self._claims = platform.informers.get(CLAIMS)
        self._classes = platform.informers.get(CLASSES)

    def look(self, vm: JsonObject) -> list[MachineVolume]:
        """The machine's volumes, in its order."""
        return [self._look(volume, vm["metadata"]["namespace"]) for volume in volumes_of(vm)]

    def _look(self, volume: JsonObject, namespace: str) -> MachineVolume:
        name, named = volume["name"], find_claim(volume)
        if named is None or named.ephemeral:
            return MachineVolume(name, reason=f"Snapshot is not supported for this volumeSource type [{name}]")
        key = Key(namespace, named.name)
        claim = self._claims.get(key)
        if claim is None:
            return MachineVolume(name, reason=f"PVC not found: claim {key} does not exist; create it", awaited=not named.dump)
        of_class = claim["spec"].get("storageClassName") or ""
        storage_class = self._classes.get(Key("", of_class))
        if storage_class is None or storage_class.get("provisioner") != PROVISIONER:
            why = f"No VolumeSnapshotClass: Volume snapshots are not configured for this StorageClass [{of_class}] [{name}]"
            return MachineVolume(name, reason=why)
        if (claim.get("status") or {}).get("phase") != "Bound":
            return MachineVolume(name, reason=f"claim {key} is not bound yet", awaited=True)
        return MachineVolume(name, claim)


def volumes_of(vm: JsonObject) -> list[JsonObject]:
    """The volumes in the template of a machine, or of the copy of one in a content."""
    template = (vm.get("spec") or {}).get("template") or {}
    volumes: list[JsonObject] = (template.get("spec") or {}).get("volumes") or []
    return volumes
