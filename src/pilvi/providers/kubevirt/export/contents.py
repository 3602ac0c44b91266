"""What an export holds now, or why it holds nothing. Reads caches only, so that it can be asked again with every block that is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.claims import find_volume, is_populated, uses_claim, volume_file
from pilvi.providers.kubevirt.export.kinds import CLAIMS, CONTENTS, INSTANCES, MACHINES, PODS, SNAPSHOTS, VOLUME_SNAPSHOTS, VOLUMES
from pilvi.providers.kubevirt.export.plan import restored_claim, restored_name, source_of
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.snapshot.plan import content_name
from pilvi.providers.kubevirt.snapshot.volumes import volumes_of
from pilvi.runtime import condition, is_controlled_by, is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Contents", "Held", "Volume"]

_FINAL = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Volume:
    """A disk of an export. `original` is the claim that the machine names, another one than `claim` when that was made from a snapshot."""

    claim: str
    original: str
    uid: str
    file: Path
    size_bytes: int


@dataclass(frozen=True)
class Held:
    """What an export holds. With a `reason`, that of the condition Ready, nothing of it can be had.

    `told` is the condition of the source, where its kind has one; `nothing`: there will be no volumes. `made_of` is the machine as
    manifests shall make it.
    """

    volumes: tuple[Volume, ...] = ()
    reason: str = ""
    message: str = ""
    told: JsonObject | None = None
    nothing: bool = False
    machine: str | None = None
    made_of: JsonObject | None = None


class _Obstacle(Exception):  # noqa: N818 (a state, no error)
    """Why a claim cannot be read now."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message


class Contents:
    """Looks for what exports hold."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        informers = platform.informers
        self._claims = informers.get(CLAIMS)
        self._volumes = informers.get(VOLUMES)
        self._pods = informers.get(PODS)
        self._machines = informers.get(MACHINES)
        self._instances = informers.get(INSTANCES)
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)
        self._copies = informers.get(VOLUME_SNAPSHOTS)

    def look(self, export: JsonObject) -> Held:
        """What it holds now."""
        kind, key = source_of(export)
        match kind:
            case CLAIMS.kind:
                return self._of_claim(key)
            case MACHINES.kind:
                return self._of_machine(key)
            case SNAPSHOTS.kind:
                return self._of_snapshot(export, key)
        raise UserError(f"{kind} {key} cannot be exported", hint="name a PersistentVolumeClaim, VirtualMachine or VirtualMachineSnapshot")

    def missing_claims(self, export: JsonObject) -> list[JsonObject]:
        """The claims that have to be made for the export of a snapshot before it can hold anything."""
        kind, key = source_of(export)
        content = self._content(key) if kind == SNAPSHOTS.kind else None
        found = []
        for backup in _backups(content):
            name = restored_name(export, backup["persistentVolumeClaim"]["metadata"]["name"])
            copied = self._copies.get(Key(key.namespace, backup["volumeSnapshotName"]))
            if copied is not None and self._claims.get(Key(key.namespace, name)) is None:
                found.append(restored_claim(export, backup, copied))
        return found

    def _of_claim(self, key: Key) -> Held:
        claim = self._claims.get(key)
        if claim is None:
            message = f"PersistentVolumeClaim {key} not found; create it"
            return Held(reason="Initializing", message=message, told=condition("PVCReady", False, "PVCNotFound", message))
        phase = (claim.get("status") or {}).get("phase")
        reason = {"Bound": "PVCBound", "Pending": "PVCPending"}.get(phase or "Pending", "Unknown")
        told = condition("PVCReady", phase == "Bound", reason, "" if phase == "Bound" else _unbound(key))
        try:
            return Held((self._readable(claim, key.name),), told=told)
        except _Obstacle as e:
            return Held(reason=e.reason, message=e.message, told=told)

    def _of_machine(self, key: Key) -> Held:
        vm = self._machines.get(key)
        if vm is None:
            message = f"Virtual Machine {key} not found; create it"
            return Held(reason="VMNotFound", message=message, nothing=True, machine=key.name)
        names = _claims_of(vm)
        if not names:
            message = f"Virtual Machine {key} has no volumes that could be exported, which are claims and DataVolumes"
            return Held(reason="VMNoVolumes", message=message, nothing=True, machine=key.name)
        vmi = self._instances.get(key)
        if vmi is not None and (vmi.get("status") or {}).get("phase") not in _FINAL:
            return Held(reason="InUse", message=f"Virtual Machine {key} is running; stop it, or export a snapshot of it", machine=key.name)
        try:
            volumes = tuple(self._named(Key(key.namespace, name), name) for name in names)
        except _Obstacle as e:
            reason = "VolumesNotPopulated" if e.reason == "PVCPending" else e.reason
            return Held(reason=reason, message=e.message, machine=key.name)
        return Held(volumes, machine=key.name, made_of=vm)

    def _of_snapshot(self, export: JsonObject, key: Key) -> Held:
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return _no_volumes("VMSnapshotNotFound", f"VirtualMachineSnapshot {key} not found; create it", None, nothing=True)
        machine = ((snapshot.get("spec") or {}).get("source") or {}).get("name")
        content = self._content(key)
        if content is None:
            return _no_volumes("NotAllPVCsCreated", f"VirtualMachineSnapshot {key} is not ready to use", machine)
        backups = _backups(content)
        if not backups:
            message = f"VirtualMachineSnapshot {key} does not contain any volume snapshots"
            return _no_volumes("VMSnapshotNoVolumes", message, machine, nothing=True)
        volumes = []
        for backup in backups:
            original = backup["persistentVolumeClaim"]["metadata"]["name"]
            name = Key(key.namespace, restored_name(export, original))
            claim = self._claims.get(name)
            if claim is None and self._copies.get(Key(key.namespace, backup["volumeSnapshotName"])) is None:
                message = f"VolumeSnapshot {backup['volumeSnapshotName']} is gone, and its data; export another snapshot"
                return _no_volumes("NotAllPVCsCreated", message, machine)
            if claim is None:
                return _no_volumes("NotAllPVCsCreated", f"claim {name} is being made from the snapshot", machine)
            if not is_controlled_by(claim, export):
                message = f"claim {name} is there already; delete it, or give the export another name"
                return _no_volumes("NotAllPVCsCreated", message, machine)
            try:
                volumes.append(self._readable(claim, original))
            except _Obstacle as e:
                told = condition("VolumesCreated", False, "NotAllPVCsReady", e.message)
                return Held(reason="Initializing" if e.reason == "PVCPending" else e.reason, message=e.message, told=told, machine=machine)
        told = condition("VolumesCreated", True, "AllPVCsReady")
        return Held(tuple(volumes), told=told, machine=machine, made_of=content["spec"]["source"]["virtualMachine"])

    def _content(self, snapshot: Key) -> JsonObject | None:
        """The content of a snapshot that can be restored."""
        found = self._snapshots.get(snapshot)
        if found is None or is_deleting(found) or not (found.get("status") or {}).get("readyToUse"):
            return None
        return self._contents.get(Key(snapshot.namespace, content_name(found)))

    def _named(self, key: Key, original: str) -> Volume:
        claim = self._claims.get(key)
        if claim is None:
            raise _Obstacle("PVCPending", f"PersistentVolumeClaim {key} does not exist")
        return self._readable(claim, original)

    def _readable(self, claim: JsonObject, original: str) -> Volume:
        """The disk of a claim that is whole and that nobody uses. Raises _Obstacle."""
        key = Key.of(claim)
        if not is_populated(claim):
            raise _Obstacle("PVCPending", f"PersistentVolumeClaim {key} is not populated; `pilvi why pvc/{key}` says why")
        volume = self._volumes.get(Key("", (claim.get("spec") or {}).get("volumeName") or ""))
        if volume is None or (claim.get("status") or {}).get("phase") != "Bound":
            raise _Obstacle("PVCPending", _unbound(key))
        folder = find_volume(volume)
        holder = (volume["spec"].get("claimRef") or {}).get("uid")
        if folder is None or holder != claim["metadata"]["uid"]:
            raise _Obstacle("Unknown", f"PersistentVolumeClaim {key} is not on a volume of this cloud and cannot be exported")
        pod = next((pod["metadata"]["name"] for pod in self._pods.list(key.namespace) if uses_claim(pod, key.name)), None)
        if pod is not None:
            raise _Obstacle("InUse", f"PersistentVolumeClaim {key} is in use by Pod {pod}; stop the machine, or export a snapshot of it")
        size_bytes = quantity_bytes(volume["spec"]["capacity"]["storage"])
        return Volume(key.name, original, claim["metadata"]["uid"], volume_file(self._cloud, folder), size_bytes)


def _claims_of(vm: JsonObject) -> list[str]:
    """Names of the claims of a machine, each once, in its order. What it only reads through a layer of its own is not its disk."""
    named: Iterable[str] = (found.name for volume in volumes_of(vm) if (found := find_claim(volume)) is not None and not found.ephemeral)
    return list(dict.fromkeys(named))


def _backups(content: JsonObject | None) -> list[JsonObject]:
    found: list[JsonObject] = ((content or {}).get("spec") or {}).get("volumeBackups") or []
    return found


def _no_volumes(reason: str, message: str, machine: str | None, *, nothing: bool = False) -> Held:
    """A snapshot whose volumes are not there; both conditions say it."""
    told = condition("VolumesCreated", False, reason, message)
    return Held(reason=reason, message=message, told=told, nothing=nothing, machine=machine)


def _unbound(key: Key) -> str:
    return f"PersistentVolumeClaim {key} is not bound; `pilvi why pvc/{key}` says why"
