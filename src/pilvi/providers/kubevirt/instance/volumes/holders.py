"""Which machine has the disk of a claim.

QEMU locks the disks of a machine: while one writes to a disk, all others that have it must call it `shareable`. A second machine is refused
in words that name neither the claim nor who has it, and its process ends. So it is asked here first. The lock still stands behind it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, phase_of
from pilvi.providers.kubevirt.instance.volumes.claim import NamedClaim, find_claim, is_only_read
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.runtime import Informer, find_condition

__all__ = ["IN_USE", "DiskHolders", "held_claims", "is_held_up"]

IN_USE = "FailedAttachVolume"
"""Kubernetes' word for a volume that somebody else has."""

_INDEX = "claims"
_CLAIM = "persistentVolumeClaimInfo"


@dataclass(frozen=True)
class _Use:
    """How a machine opens a disk."""

    read_only: bool
    shareable: bool

    def allows(self, other: _Use) -> bool:
        """Whoever does not share a disk wants nobody else to write to it."""
        return (other.read_only or self.shareable) and (self.read_only or other.shareable)


class DiskHolders:
    """Who comes first has the disk, until its machine has ended or its guest has let go of it.

    After a start of the engine nobody has come yet: then a machine that runs has its disks.
    """

    def __init__(self, instances: Informer) -> None:
        self._instances = instances
        self._instances.add_index(_INDEX, _index)
        self._first: dict[Key, set[str]] = {}

    def take(self, vmi: JsonObject, claim: JsonObject) -> None:
        """The instance opens the claim's disk now. Raises VolumeNotReady when another one has it and does not share it."""
        key, own = Key.of(claim), vmi["metadata"]["uid"]
        users = {user["metadata"]["uid"]: user for user in self._instances.by_index(_INDEX, key)}
        first = self._first[key] = {uid for uid in self._first.get(key, ()) if uid in users}
        if own not in first and not _runs_with(vmi, key.name):
            use = _find_use(vmi, claim)
            for uid, user in users.items():
                has = (uid in first and phase_of(user) not in FINAL_PHASES) or _runs_with(user, key.name)
                if has and uid != own and not use.allows(_find_use(user, claim)):
                    raise VolumeNotReady(IN_USE, _explain(key, user), failed=True)
        first.add(own)

    def held_up(self, vmi: JsonObject) -> list[Key]:
        """The instances that wait for a disk of this one."""
        found = {Key.of(user): user for claim in _index(vmi) for user in self._instances.by_index(_INDEX, claim)}
        return [key for key, user in found.items() if is_held_up(user)]


def held_claims(vmi: JsonObject) -> set[str]:
    """Names of the claims whose disks the instance has, or is made with. Pure."""
    if phase_of(vmi) in FINAL_PHASES:
        return set()
    return {claim.name for _, claim in _claims(vmi) if not claim.hotpluggable} | _plugged(vmi)


def is_held_up(vmi: JsonObject) -> bool:
    """Whether the instance says that it waits for a disk that another one has. Pure."""
    status = vmi.get("status") or {}
    ready = find_condition(vmi, "Ready") or {}
    return ready.get("reason") == IN_USE or any(entry.get("reason") == IN_USE for entry in status.get("volumeStatus") or [])


def _explain(claim: Key, user: JsonObject) -> str:
    return (
        f"PersistentVolumeClaim {claim} is in use by VirtualMachineInstance {user['metadata']['name']}; stop it, clone the claim, or give"
        " the disk `shareable: true` in both machines if its file system is made for that"
    )


def _runs_with(vmi: JsonObject, claim: str) -> bool:
    return phase_of(vmi) == "Running" and claim in held_claims(vmi)


def _plugged(vmi: JsonObject) -> set[str]:
    """The claims behind what has come to the running machine and has not gone yet."""
    entries = (vmi.get("status") or {}).get("volumeStatus") or []
    return {entry[_CLAIM]["claimName"] for entry in entries if _CLAIM in entry and _is_there(entry)}


def _is_there(entry: JsonObject) -> bool:
    dump = entry.get("memoryDumpVolume")
    return entry.get("phase") in ("Ready", "Detaching") or (dump is not None and "endTimestamp" not in dump)


def _find_use(vmi: JsonObject, claim: JsonObject) -> _Use:
    """How the instance opens the claim; a disk that it shall have no longer counts as its own."""
    devices = (vmi["spec"].get("domain") or {}).get("devices") or {}
    disks = {disk["name"]: disk for disk in devices.get("disks") or []}
    found = [(disks.get(name) or {}, named) for name, named in _claims(vmi) if named.name == claim["metadata"]["name"]]
    return _Use(
        read_only=bool(found) and all(is_only_read(claim) or named.read_only or _cannot_write(disk) for disk, named in found),
        shareable=bool(found) and all(bool(disk.get("shareable")) for disk, _ in found),
    )


def _cannot_write(disk: JsonObject) -> bool:
    return disk.get("cdrom") is not None or any((disk.get(kind) or {}).get("readonly") for kind in ("disk", "lun"))


def _claims(vmi: JsonObject) -> Iterator[tuple[str, NamedClaim]]:
    for volume in (vmi.get("spec") or {}).get("volumes") or []:
        if (claim := find_claim(volume)) is not None:
            yield volume["name"], claim


def _index(vmi: JsonObject) -> list[Hashable]:
    namespace = vmi["metadata"]["namespace"]
    return [Key(namespace, name) for name in {*(claim.name for _, claim in _claims(vmi)), *_plugged(vmi)}]
