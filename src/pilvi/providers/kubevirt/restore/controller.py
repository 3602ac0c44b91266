"""Restores machines from snapshots: the machine has ended, then the new claims, then its specification, then what it no longer has.

`status.restores` is written before anything is made, and what a restore has made says so, so an engine that starts goes on where another
one has died.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, ApiError, Forbidden, Invalid, UserError, format_chain
from pilvi.lib.clock import parse_time, utc_now
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.folder import TPM, VARIABLES, copy_kept, has_kept
from pilvi.providers.kubevirt.restore.plan import (
    FINALIZER,
    changed_machine,
    is_done,
    is_from,
    new_machine,
    obsolete_data_volumes,
    plan_restores,
    target_key,
)
from pilvi.providers.kubevirt.restore.status import (
    CLAIMS_AWAITED,
    ERROR,
    INITIALIZING,
    TARGET_AWAITED,
    Step,
    complete_status,
    failed_status,
    step_status,
)
from pilvi.providers.kubevirt.restore.volumes import RestoredVolumes
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLONES, CONTENTS, DATA_VOLUMES, RESTORES, SNAPSHOTS
from pilvi.providers.kubevirt.snapshot.plan import content_name
from pilvi.providers.kubevirt.snapshot.revisions import share_revisions
from pilvi.providers.kubevirt.subresources.lifecycle import plan_stop
from pilvi.providers.kubevirt.subresources.options import StopOptions
from pilvi.providers.status import write_status
from pilvi.runtime import (
    Done,
    Result,
    Waiting,
    controller_key,
    ensure_finalizer,
    has_finalizer,
    is_controlled_by,
    is_deleting,
    owner_reference,
    remove_finalizer,
)

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Restores"]

LOOK_AGAIN_S = 15.0
GRACE_S = 300.0
"""How long a restore waits for its machine to be stopped, by its default policy. KubeVirt's."""


@dataclass(frozen=True)
class _Failure:
    """Why a restore can never be done."""

    message: str


class Restores:
    """The reconciler of VirtualMachineRestores."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._restores = informers.get(RESTORES)
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(CONTENTS)
        self._claims = informers.get(CLAIMS)
        self._data_volumes = informers.get(DATA_VOLUMES)
        self._machines = informers.get(MACHINES)
        self._instances = informers.get(INSTANCES)
        self._volumes = RestoredVolumes(platform)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the restore `key`."""
        restore = self._restores.get(key)
        if restore is None:
            return Done()
        if is_deleting(restore):
            return await self._delete(restore)
        if is_done(restore):
            return Done()
        restore = await ensure_finalizer(self._client, RESTORES, restore, FINALIZER)
        restore = {**await self._with_owner(restore)}  # a copy: `_note` changes it
        try:
            step = await self._advance(restore)
        except UserError as e:
            step = Step(*ERROR, format_chain(e), working=False)
        except (Forbidden, Invalid) as e:
            step = Step(*ERROR, f"the machine or a claim cannot be written: {format_chain(e)}", working=False)
        if step is None:
            await write_status(self._client, RESTORES, restore, complete_status(restore))
            self._events.record(
                restore, "Normal", "VirtualMachineRestoreComplete", f"Successfully completed VirtualMachineRestore {key.name}"
            )
            return Done()
        if isinstance(step, _Failure):
            await write_status(self._client, RESTORES, restore, failed_status(restore, step.message))
            self._events.record(restore, "Warning", "VirtualMachineRestoreError", step.message)
            return Done()
        stored = await write_status(self._client, RESTORES, restore, step_status(restore, step))
        if stored is not restore and step.progressing == ERROR[0]:
            self._events.record(restore, "Warning", "VirtualMachineRestoreError", step.message)
        return Waiting("InProgress", step.message, LOOK_AGAIN_S)

    async def _with_owner(self, restore: JsonObject) -> JsonObject:
        """A restore goes with its machine."""
        vm = self._machines.get(target_key(restore))
        if vm is None or is_deleting(vm) or restore["metadata"].get("ownerReferences"):
            return restore
        owner = owner_reference({"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, **vm})
        guard = {"uid": restore["metadata"]["uid"], "resourceVersion": restore["metadata"]["resourceVersion"]}
        return await self._client.patch(RESTORES, Key.of(restore), {"metadata": {**guard, "ownerReferences": [owner]}})

    async def _advance(self, restore: JsonObject) -> Step | _Failure | None:
        """The next step; what is awaited then, None when all is done. Raises UserError."""
        target = target_key(restore)
        vm, vmi = self._machines.get(target), self._instances.get(target)
        if vm is not None and is_from(restore, vm):
            return await self._finish(restore, vm)
        content = self._content(restore)
        if isinstance(content, _Failure):
            return content
        if vm is not None:
            if is_deleting(vm):
                return Step(*INITIALIZING, f"VirtualMachine {target} is being deleted", working=False)
            if vmi is not None:
                return await self._await_stop(restore, vm, vmi)
            kept = content["spec"]["source"]["virtualMachine"]["metadata"]
            if kept.get("uid") != vm["metadata"]["uid"]:
                raise UserError(
                    f"VirtualMachine {target} is there already, and the snapshot is of another machine",
                    hint="make a restore with another name as its target",
                )
            if (vm.get("status") or {}).get("restoreInProgress") != restore["metadata"]["name"]:
                other = (vm.get("status") or {}).get("restoreInProgress") or (vm.get("status") or {}).get("snapshotInProgress")
                return Step(*INITIALIZING, f"{other} of the same machine is done first" if other else "the machine is awaited")
        await self._note(restore, restores=plan_restores(restore, content, self._claims.list(target.namespace)))
        awaited = await self._volumes.ensure(restore, content, vm)
        if awaited:
            return Step(*CLAIMS_AWAITED, ", ".join(awaited))
        return await self._write_machine(restore, content, vm)

    async def _write_machine(self, restore: JsonObject, content: JsonObject, vm: JsonObject | None) -> Step:
        restores = restore["status"]["restores"]
        if vm is None:
            made = new_machine(restore, content, restores)
            try:
                await self._client.create(MACHINES, made)
            except AlreadyExists:
                return Step(*TARGET_AWAITED, "the cache is behind")
            return Step(*TARGET_AWAITED, "the machine is made")
        changed = changed_machine(restore, content, restores, vm)
        if obsolete := obsolete_data_volumes(vm, changed):
            await self._note(restore, deletedDataVolumes=obsolete)
        await self._bring_state(restore, content, vm)
        await self._client.replace(MACHINES, changed)
        return Step(*TARGET_AWAITED, "the machine is changed")

    async def _bring_state(self, restore: JsonObject, content: JsonObject, vm: JsonObject) -> None:
        """Give the machine what its firmware and TPM had kept at that moment. A clone's TPM is new: its secrets are one machine's."""
        names = (VARIABLES,) if controller_key(restore, CLONES) is not None else (VARIABLES, TPM)
        await finish_on_disk(copy_kept, self._cloud, content["metadata"]["uid"], vm["metadata"]["uid"], names)

    async def _note(self, restore: JsonObject, **fields: list[Any]) -> None:
        """Write down what is going to be done, once, and make `restore` the object as stored: what was noted first stands."""
        status = restore.get("status") or {}
        if new := {name: value for name, value in fields.items() if name not in status}:
            restore.update(await write_status(self._client, RESTORES, restore, {**status, **new}))

    async def _finish(self, restore: JsonObject, vm: JsonObject) -> Step | None:
        """The machine is as it shall be: what is left is whose the claims are, and the disks that it no longer has."""
        snapshot = self._snapshots.get(Key(restore["metadata"]["namespace"], restore["spec"]["virtualMachineSnapshotName"]))
        content = self._contents.get(Key(restore["metadata"]["namespace"], content_name(snapshot))) if snapshot is not None else None
        if content is not None and not await on_disk(has_kept, self._cloud, vm["metadata"]["uid"]):
            await self._bring_state(restore, content, vm)  # it was made just now
        await share_revisions(self._client, vm["spec"], MACHINES, vm)
        await self._volumes.give_to(restore, vm)
        for name in (restore.get("status") or {}).get("deletedDataVolumes") or ():
            data_volume = self._data_volumes.get(Key(restore["metadata"]["namespace"], name))
            if data_volume is not None and is_controlled_by(data_volume, vm):
                await self._client.ensure_absent(DATA_VOLUMES, Key.of(data_volume), uid=data_volume["metadata"]["uid"])
        return None

    async def _await_stop(self, restore: JsonObject, vm: JsonObject, vmi: JsonObject) -> Step | _Failure:
        """The machine still has an instance: what the policy says of that."""
        name = vm["metadata"]["name"]
        match restore["spec"].get("targetReadinessPolicy") or "WaitGracePeriod":
            case "FailImmediate":
                return _Failure("Restore target VMI must be powered off before restore operation")
            case "StopTarget":
                await self._stop(vm, vmi)
                why = "Automatically stopping restore target for restore operation"
                return Step(why, why, f"VirtualMachine {name} is being stopped", working=False)
            case "WaitEventually":
                why = "Waiting for target VM to be powered off"
                return Step(why, why, f"stop the machine (virtctl stop {name})", working=False)
        age_s = (utc_now() - parse_time(restore["metadata"]["creationTimestamp"])).total_seconds()
        if age_s > GRACE_S:
            return _Failure(f"the machine {name} was not stopped within 5 minutes; stop it, and make a new restore")
        why = "Waiting for target VM to be powered off"
        return Step(why, why, f"stop the machine (virtctl stop {name}) within 5 minutes", working=False)

    async def _stop(self, vm: JsonObject, vmi: JsonObject) -> None:
        if is_deleting(vmi):
            return
        try:
            change = plan_stop(vm, vmi, StopOptions())
        except ApiError:
            return  # it stops already
        guard: JsonObject = {"metadata": {"uid": vm["metadata"]["uid"], "resourceVersion": vm["metadata"]["resourceVersion"]}}
        if change.spec is not None:
            await self._client.patch(MACHINES, Key.of(vm), {**guard, "spec": change.spec})
        if change.status is not None:
            await self._client.patch(MACHINES, Key.of(vm), {**guard, "status": change.status}, subresource="status")

    def _content(self, restore: JsonObject) -> JsonObject | _Failure:
        """The content of the snapshot, a failure when there will never be one. Raises UserError while there is none."""
        key = Key(restore["metadata"]["namespace"], restore["spec"]["virtualMachineSnapshotName"])
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            raise UserError(f"VMSnapshot {key} does not exist", hint="create it, or make a restore of another one")
        status = snapshot.get("status") or {}
        content = self._contents.get(Key(key.namespace, content_name(snapshot)))
        if status.get("phase") == "Failed":
            return _Failure(f"VMSnapshot {key} failed and is invalid to use; make a restore of another one")
        if not status.get("readyToUse") or content is None:
            raise UserError(f"VMSnapshot {key} not ready", hint="the restore goes on when it is; its status tells what it waits for")
        return content

    async def _delete(self, restore: JsonObject) -> Result:
        if not has_finalizer(restore, FINALIZER):
            return Done()
        vm = self._machines.get(target_key(restore))
        if not (restore.get("status") or {}).get("complete") and not (vm is not None and is_from(restore, vm)):
            await self._volumes.let_go(restore)
        await remove_finalizer(self._client, RESTORES, restore, FINALIZER)
        return Done()
