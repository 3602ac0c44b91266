"""What a VirtualMachine's status says of snapshots and restores, and what follows from it.

The machine's own controller writes it, from the caches, and alone: `snapshotInProgress` and `restoreInProgress` are the lock. A snapshot
or restore begins only when it finds its name there, so at most one works on a machine, and no machine starts while it is restored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.restore.plan import is_under_way, target_key
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLASSES, RESTORES, SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import in_progress, source_key
from pilvi.providers.kubevirt.snapshot.volumes import MachineVolumes, volumes_of
from pilvi.runtime import Watch, desire_changed

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Marks", "machine_watches"]


class Marks:
    """Reads the caches of snapshots, restores and claims."""

    def __init__(self, platform: Platform) -> None:
        self._snapshots = platform.informers.get(SNAPSHOTS)
        self._restores = platform.informers.get(RESTORES)
        self._volumes = MachineVolumes(platform)

    def of(self, vm: JsonObject, vmi: JsonObject | None) -> JsonObject:
        """The fields of the machine's status; `vmi` is its instance."""
        marks: JsonObject = {}
        copying = self._copying(vm)
        if restoring := self._restoring(vm, vmi):
            marks["restoreInProgress"] = restoring
        elif copying:
            marks["snapshotInProgress"] = _first(copying, (vm.get("status") or {}).get("snapshotInProgress"))
        if volumes := self._volumes.look(vm):
            marks["volumeSnapshotStatuses"] = [
                {"name": each.name, "enabled": each.claim is not None, **({"reason": each.reason} if each.reason else {})}
                for each in volumes
            ]
        return marks

    def may_start(self, vm: JsonObject) -> bool:
        """Whether the machine, which has no instance, may get one."""
        return self._restoring(vm, None) is None

    def _restoring(self, vm: JsonObject, vmi: JsonObject | None) -> str | None:
        if vmi is not None:
            return None  # a restore waits until the machine has ended
        held = (vm.get("status") or {}).get("snapshotInProgress")
        if any(each["metadata"]["name"] == held for each in self._copying(vm)):
            return None  # and until its disks, which it may replace, are copied
        found = [
            each for each in self._restores.list(vm["metadata"]["namespace"]) if target_key(each) == Key.of(vm) and self._can(each, vm)
        ]
        return _first(found, (vm.get("status") or {}).get("restoreInProgress")) if found else None

    def _copying(self, vm: JsonObject) -> list[JsonObject]:
        return [each for each in self._snapshots.list(vm["metadata"]["namespace"]) if source_key(each) == Key.of(vm) and in_progress(each)]

    def _can(self, restore: JsonObject, vm: JsonObject) -> bool:
        """Whether the restore works on the machine, or can: one without a snapshot of this machine holds nobody up."""
        snapshot = self._snapshots.get(Key(vm["metadata"]["namespace"], restore["spec"]["virtualMachineSnapshotName"]))
        status = (snapshot or {}).get("status") or {}
        return is_under_way(restore) and bool(status.get("readyToUse")) and status.get("sourceUID") == vm["metadata"]["uid"]


def machine_watches(platform: Platform) -> list[Watch]:
    """What else wakes a machine's pass."""
    machines = platform.informers.get(MACHINES)

    def users_of(claim: JsonObject) -> list[Key]:
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        return [
            Key.of(vm)
            for vm in machines.list(namespace)
            if any((named := find_claim(volume)) and named.name == name for volume in volumes_of(vm))
        ]

    return [
        Watch(SNAPSHOTS, lambda obj: [source_key(obj)], _phase_changed),
        Watch(RESTORES, lambda obj: [target_key(obj)], _phase_changed),
        Watch(CLAIMS, users_of, _phase_changed),
        Watch(CLASSES, lambda _obj: (), desire_changed),
    ]


def _first(found: Iterable[JsonObject], before: str | None) -> str:
    """The one that works on the machine: the one that did before, else the oldest."""
    chosen = min(found, key=lambda obj: (obj["metadata"]["name"] != before, obj["metadata"]["creationTimestamp"], obj["metadata"]["name"]))
    return str(chosen["metadata"]["name"])


def _phase_changed(old: JsonObject, new: JsonObject) -> bool:
    return desire_changed(old, new) or old.get("status") != new.get("status")
