"""Clones machines: snapshot, restore, and then both are removed. The phases are KubeVirt's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UserError, format_chain
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.clone.plan import restore_key, restore_of, snapshot_key, snapshot_of, source_key, target_key
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.snapshot.kinds import CLONES, CONTENTS, RESTORES, SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import content_name
from pilvi.providers.status import write_status
from pilvi.runtime import (
    Done,
    RequeueAfter,
    Result,
    Waiting,
    condition,
    conditions_of,
    find_condition,
    is_deleting,
    is_true,
    merge_conditions,
)

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Clones"]

LOOK_AGAIN_S = 15.0
TIDY_AFTER_S = 0.2


@dataclass(frozen=True)
class _Step:
    """The phase of a clone, and what is awaited; `pending` when nothing can be done until somebody else has."""

    phase: str
    message: str
    pending: bool = False


class Clones:
    """The reconciler of VirtualMachineClones."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._clones = informers.get(CLONES)
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)
        self._restores = informers.get(RESTORES)
        self._machines = informers.get(MACHINES)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the clone `key`. The garbage collector takes what was made for a clone that is deleted."""
        clone = self._clones.get(key)
        if clone is None or is_deleting(clone):
            return Done()
        phase = (clone.get("status") or {}).get("phase")
        if phase == "Failed":
            return Done()
        if phase == "Succeeded":
            return await self._tidy(clone)
        try:
            step = await self._advance(clone)
        except (UserError, Forbidden, Invalid) as e:
            step = _Step("Failed", format_chain(e))
        await self._report(clone, step)
        if step.phase == "Failed":
            return Done()
        # A status of its own wakes nobody: what is left of a clone that is made is removed by the next pass.
        return Waiting("InProgress", step.message, LOOK_AGAIN_S) if step.phase != "Succeeded" else RequeueAfter(TIDY_AFTER_S)

    async def _advance(self, clone: JsonObject) -> _Step:
        """The next step. Raises UserError for a clone that can never be made."""
        restore = self._restores.get(restore_key(clone))
        if restore is None:
            return await self._begin(clone)
        if (restore.get("status") or {}).get("complete"):
            return _Step("Succeeded", "")
        if is_true(restore, "Failure"):
            raise UserError(f"the restore has failed: {_message(restore)}", hint="make a new VirtualMachineClone")
        return _Step("RestoreInProgress", _message(restore) or "the restore begins")

    async def _begin(self, clone: JsonObject) -> _Step:
        target, snapshot = target_key(clone), self._snapshots.get(snapshot_key(clone))
        if self._machines.get(target) is not None:
            raise UserError(f"VirtualMachine {target} is there already", hint="make a VirtualMachineClone with another target")
        if snapshot is None:
            source = source_key(clone)
            if clone["spec"]["source"]["kind"] == SNAPSHOTS.kind:
                return _Step("", f"there is no VirtualMachineSnapshot {source}; create it", pending=True)
            vm = self._machines.get(source)
            if vm is None:
                return _Step("", f"there is no VirtualMachine {source}; create it", pending=True)
            states = (vm.get("status") or {}).get("volumeSnapshotStatuses") or ()
            named = {each["name"] for each in vm["spec"]["template"]["spec"].get("volumes") or () if _outlives(each)}
            for state in states:
                if state["name"] in named and not state["enabled"]:
                    return _Step("", f"volume {state['name']} cannot be copied: {state.get('reason')}", pending=True)
            await self._create(SNAPSHOTS, snapshot_of(clone))
            return _Step("SnapshotInProgress", "the snapshot begins")
        status = snapshot.get("status") or {}
        if status.get("phase") == "Failed":
            raise UserError(f"the snapshot has failed: {_message(snapshot)}", hint="make a new VirtualMachineClone")
        content = self._contents.get(Key(target.namespace, content_name(snapshot)))
        if not status.get("readyToUse") or content is None:
            return _Step("SnapshotInProgress", _message(snapshot) or "the snapshot begins")
        await self._create(RESTORES, restore_of(clone, content["spec"]["source"]["virtualMachine"]))
        return _Step("RestoreInProgress", "the restore begins")

    async def _create(self, resource: Resource, obj: JsonObject) -> None:
        try:
            await self._client.create(resource, obj)
        except AlreadyExists:
            return

    async def _tidy(self, clone: JsonObject) -> Result:
        """Remove what the clone was made with. A clone whose machine is deleted goes too, as KubeVirt's does."""
        target = target_key(clone)
        # The cache may not have seen yet what the restore has just made.
        if self._machines.get(target) is None and await self._client.find(MACHINES, target) is None:
            await self._client.ensure_absent(CLONES, Key.of(clone), uid=clone["metadata"]["uid"])
            return Done()
        status = clone["status"]
        if status.get("restoreName"):
            await self._client.ensure_absent(RESTORES, restore_key(clone))
        if status.get("snapshotName"):
            await self._client.ensure_absent(SNAPSHOTS, snapshot_key(clone))
        left = {name: value for name, value in status.items() if name not in ("restoreName", "snapshotName")}
        await write_status(self._client, CLONES, clone, left)
        return Done()

    async def _report(self, clone: JsonObject, step: _Step) -> None:
        old = clone.get("status") or {}
        status: JsonObject = {**old, "targetName": target_key(clone).name}
        if step.phase:
            status["phase"] = step.phase
        if step.phase in ("SnapshotInProgress", "RestoreInProgress") and clone["spec"]["source"]["kind"] == MACHINES.kind:
            status["snapshotName"] = snapshot_key(clone).name
        if step.phase == "RestoreInProgress":
            status["restoreName"] = restore_key(clone).name
        if step.phase == "Succeeded":
            status["creationTime"] = format_time()
            told = [condition("Progressing", False, "Ready"), condition("Ready", True, "Ready")]
        elif step.phase == "Failed":
            told = [condition("Progressing", False, "Failed", step.message), condition("Ready", False, "Failed", step.message)]
        elif step.pending:
            told = [condition("Progressing", False, "Pending", step.message), condition("Ready", False, "Pending", step.message)]
        else:
            told = [condition(type, type == "Progressing", "Still processing", step.message) for type in ("Progressing", "Ready")]
        status["conditions"] = merge_conditions(conditions_of(clone), told)
        stored = await write_status(self._client, CLONES, clone, status)
        if stored is not clone and step.phase != old.get("phase") and step.phase in ("Succeeded", "Failed"):
            if step.phase == "Failed":
                self._events.record(clone, "Warning", "CloneFailed", step.message)
            else:
                self._events.record(clone, "Normal", "CloneSucceeded", f"VirtualMachine {status['targetName']} is made")


def _outlives(volume: JsonObject) -> bool:
    return bool(volume.get("persistentVolumeClaim") or volume.get("dataVolume"))


def _message(obj: JsonObject) -> str:
    found = find_condition(obj, "Progressing") or {}
    return str(found.get("message") or found.get("reason") or "")
