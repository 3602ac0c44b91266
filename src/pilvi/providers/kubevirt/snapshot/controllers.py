"""The controllers of snapshots, restores and clones, and what wakes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.providers.kubevirt.clone import plan as clone_plan
from pilvi.providers.kubevirt.clone.controller import Clones
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.restore.controller import Restores
from pilvi.providers.kubevirt.restore.plan import is_under_way, target_key
from pilvi.providers.kubevirt.snapshot.content import Contents
from pilvi.providers.kubevirt.snapshot.controller import Snapshots
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLONES, CONTENTS, DATA_VOLUMES, RESTORES, SNAPSHOTS, VOLUME_SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import in_progress, snapshot_key, source_key
from pilvi.providers.kubevirt.snapshot.quiesce import Quiesce
from pilvi.runtime import Controller, Watch, controller_key

if TYPE_CHECKING:
    from pilvi.providers.kubevirt.machines.backend import MachineBackend
    from pilvi.providers.platform import Platform

__all__ = ["snapshot_controllers"]


def snapshot_controllers(platform: Platform, backends: Mapping[str, MachineBackend]) -> list[Controller]:
    """The controllers; `backends` run the machines whose guests hold still."""
    wakes = _Wakes(platform)
    return [
        Controller(
            "virtualmachinesnapshot",
            SNAPSHOTS,
            Snapshots(platform, Quiesce(backends)).reconcile,
            watches=[
                Watch(CONTENTS, lambda content: [snapshot_key(content)]),
                Watch(VOLUME_SNAPSHOTS, wakes.snapshot_of_copy),
                Watch(MACHINES, wakes.snapshots_of_machine),
                Watch(CLAIMS, wakes.snapshots_of_claim),
            ],
        ),
        Controller("virtualmachinesnapshotcontent", CONTENTS, Contents(platform).reconcile, watches=[Watch(SNAPSHOTS, wakes.content_of)]),
        Controller(
            "virtualmachinerestore",
            RESTORES,
            Restores(platform).reconcile,
            watches=[
                Watch(SNAPSHOTS, wakes.restores_of_snapshot),
                Watch(MACHINES, wakes.restores_of_machine),
                Watch(INSTANCES, wakes.restores_of_machine),
                Watch(CLAIMS, wakes.restores_of_claim),
                Watch(DATA_VOLUMES, _nobody),
            ],
        ),
        Controller(
            "virtualmachineclone",
            CLONES,
            Clones(platform).reconcile,
            owns=[RESTORES],
            watches=[Watch(SNAPSHOTS, wakes.clones_of_snapshot), Watch(MACHINES, wakes.clones_of_machine)],
        ),
    ]


class _Wakes:
    """Which keys a change of something else concerns."""

    def __init__(self, platform: Platform) -> None:
        self._contents = platform.informers.get(CONTENTS)
        self._snapshots = platform.informers.get(SNAPSHOTS)
        self._restores = platform.informers.get(RESTORES)
        self._clones = platform.informers.get(CLONES)

    def snapshot_of_copy(self, copy: JsonObject) -> list[Key]:
        owner = controller_key(copy, CONTENTS)
        content = self._contents.get(owner) if owner is not None else None
        return [snapshot_key(content)] if content is not None else []

    def snapshots_of_machine(self, vm: JsonObject) -> list[Key]:
        key = Key.of(vm)
        return [Key.of(each) for each in self._snapshots.list(key.namespace) if source_key(each) == key and in_progress(each)]

    def snapshots_of_claim(self, claim: JsonObject) -> list[Key]:
        return [Key.of(each) for each in self._snapshots.list(claim["metadata"]["namespace"]) if in_progress(each)]

    def content_of(self, snapshot: JsonObject) -> list[Key]:
        name = (snapshot.get("status") or {}).get("virtualMachineSnapshotContentName")
        return [Key(snapshot["metadata"]["namespace"], name)] if name else []

    def restores_of_snapshot(self, snapshot: JsonObject) -> list[Key]:
        name = snapshot["metadata"]["name"]
        return [key for key, each in self._under_way(snapshot) if (each.get("spec") or {}).get("virtualMachineSnapshotName") == name]

    def restores_of_machine(self, vm: JsonObject) -> list[Key]:
        return [key for key, each in self._under_way(vm) if target_key(each) == Key.of(vm)]

    def restores_of_claim(self, claim: JsonObject) -> list[Key]:
        return [key for key, _ in self._under_way(claim)]

    def _under_way(self, obj: JsonObject) -> Iterable[tuple[Key, JsonObject]]:
        return [(Key.of(each), each) for each in self._restores.list(obj["metadata"]["namespace"]) if is_under_way(each)]

    def clones_of_snapshot(self, snapshot: JsonObject) -> list[Key]:
        key = Key.of(snapshot)
        return [Key.of(each) for each in self._clones.list(key.namespace) if clone_plan.snapshot_key(each) == key]

    def clones_of_machine(self, vm: JsonObject) -> list[Key]:
        key = Key.of(vm)
        return [
            Key.of(each) for each in self._clones.list(key.namespace) if key in (clone_plan.source_key(each), clone_plan.target_key(each))
        ]


def _nobody(_obj: JsonObject) -> Iterable[Key]:
    """Watched for its cache only."""
    return ()
