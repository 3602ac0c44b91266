"""Keeps each VirtualMachine as its run strategy says: starts and stops the instance of the same name, and reports.

One pass does one step; the write that it makes wakes the next pass. The machine behind the instance is the business of
`instance/`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UserError, format_chain
from pilvi.lib.clock import utc_now
from pilvi.lib.disk import on_disk
from pilvi.providers.kubevirt.instancetype.choice import Choices, Unsettled
from pilvi.providers.kubevirt.kinds import CLAIMS, DATA_VOLUMES, INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.folder import remove_kept
from pilvi.providers.kubevirt.snapshot.marks import Marks
from pilvi.providers.kubevirt.virtualmachine.datavolumes import DataVolumes, Made
from pilvi.providers.kubevirt.virtualmachine.disks import look_at_disks
from pilvi.providers.kubevirt.virtualmachine.instance import find_name_taken, new_instance
from pilvi.providers.kubevirt.virtualmachine.liveupdate import plan_live_update
from pilvi.providers.kubevirt.virtualmachine.memorydump import MemoryDumpRequests
from pilvi.providers.kubevirt.virtualmachine.status import Failure, plan_conditions, plan_status
from pilvi.providers.kubevirt.virtualmachine.strategy import Keep, RunAlways, Start, Stop, Wait, plan_step
from pilvi.providers.platform import Platform
from pilvi.providers.status import merge_patch, write_status
from pilvi.runtime import Done, Failed, RequeueAfter, Result
from pilvi.runtime.conditions import condition, conditions_of, merge_conditions
from pilvi.runtime.finalizers import ensure_finalizer, has_finalizer, is_deleting, remove_finalizer

__all__ = ["FINALIZER", "VirtualMachines"]

FINALIZER = "kubevirt.io/virtualMachineControllerFinalize"


@dataclass(frozen=True)
class _Scope:
    """All that one pass looks at. `taken` is why it can have no instance: one of its name is there that belongs to somebody else.

    `restart` says what of the template waits for a restart.
    """

    vm: JsonObject
    vmi: JsonObject | None
    taken: str | None = None
    made: Made = field(default_factory=Made)
    restart: tuple[str, ...] = ()


class VirtualMachines:
    """The reconciler of VirtualMachine."""

    def __init__(self, platform: Platform) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._choices = Choices(platform.client)
        self._machines = platform.informers.get(MACHINES)
        self._instances = platform.informers.get(INSTANCES)
        self._claims = platform.informers.get(CLAIMS)
        self._data_volumes = platform.informers.get(DATA_VOLUMES)
        self._own_disks = DataVolumes(platform)
        self._marks = Marks(platform)
        self._dumps = MemoryDumpRequests(platform)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the machine `key`."""
        vm = self._machines.get(key)
        if vm is None:
            return Done()
        instance = self._instances.get(key)
        taken = find_name_taken(instance, vm)
        scope = _Scope(vm, instance if taken is None else None, taken)
        if is_deleting(vm):
            return await self._delete(scope)
        return await self._keep(scope)

    async def _keep(self, scope: _Scope) -> Result:
        vm = await ensure_finalizer(self._client, MACHINES, scope.vm, FINALIZER)
        vm, unsettled = await self._settle(vm)
        # What a restore has taken away must not be made anew before its templates are gone too.
        may_start = self._marks.may_start(vm)
        made = await self._own_disks.ensure(vm) if may_start else Made()
        vm, vmi = await self._dumps.advance(vm, scope.vmi)
        scope = _Scope(vm, vmi, scope.taken, made)
        try:
            step = plan_step(vm, scope.vmi, utc_now())
        except UserError as e:
            await self._report_refusal(vm, format_chain(e))
            return Failed(format_chain(e), permanent=True)
        match step:
            case Start() if not may_start:
                pass
            case Start() if scope.made.failure is not None:
                await self._report(scope, scope.made.failure, settled=False)
                return Failed(scope.made.failure.message)
            case Start() if not scope.made.ready:
                await self._report(scope, settled=False)
                return Done()
            case Start():
                outcome = unsettled or await self._start(scope)
                if isinstance(outcome, Failure):
                    await self._report(scope, outcome, settled=False)
                    return Failed(outcome.message)
                scope = _Scope(vm, outcome, made=scope.made)
            case Stop():
                if scope.vmi is not None:
                    await self._remove_instance(vm, scope.vmi)
                if step.again:
                    return await self._request_start(vm)
            case RunAlways():
                return await self._run_always(vm)
            case Wait():
                await self._report(scope, settled=False)
                return RequeueAfter(step.seconds)
            case Keep():
                scope = await self._update_live(scope)
        failure = unsettled or scope.made.failure
        await self._report(scope, failure)
        return Done() if failure is None else Failed(failure.message)

    async def _settle(self, vm: JsonObject) -> tuple[JsonObject, Failure | None]:
        """`vm` with its instancetype and preference settled, or why they cannot be; that only stands in the way of a start."""
        try:
            return await self._choices.settle(vm), None
        except Unsettled as e:
            return vm, Failure(e.reason, format_chain(e))

    async def _delete(self, scope: _Scope) -> Result:
        if not has_finalizer(scope.vm, FINALIZER):
            return Done()
        # `kubectl delete --cascade=orphan` asks to keep the instance.
        orphan = has_finalizer(scope.vm, "orphan")
        if scope.vmi is not None and not orphan:
            if not is_deleting(scope.vmi):
                await self._remove_instance(scope.vm, scope.vmi)
            await self._report_deletion(scope)
            return Done()
        if not orphan:
            await on_disk(remove_kept, self._cloud, scope.vm["metadata"]["uid"])
        await remove_finalizer(self._client, MACHINES, scope.vm, FINALIZER)
        return Done()

    async def _start(self, scope: _Scope) -> JsonObject | Failure | None:
        """The new instance, None when it is there but not in the cache yet, or why it cannot be made."""
        vm = scope.vm
        name = vm["metadata"]["name"]
        if scope.taken is not None:
            return Failure("FailedCreate", scope.taken)
        try:
            instance = await self._client.create(INSTANCES, await self._plan_instance(vm))
        except AlreadyExists:
            # Either the cache is behind our own write, or a foreign one came in between; the next pass sees which.
            return None
        except Unsettled as e:
            return Failure(e.reason, format_chain(e))
        except (Forbidden, Invalid) as e:
            self._events.record(vm, "Warning", "FailedCreate", f"Error creating virtual machine instance: {format_chain(e)}")
            return Failure("FailedCreate", f"the instance cannot be made: {format_chain(e)}")
        self._events.record(
            vm, "Normal", "SuccessfulCreate", f"Started the virtual machine by creating the new virtual machine instance {name}"
        )
        return instance

    async def _plan_instance(self, vm: JsonObject) -> JsonObject:
        """The instance that `vm` is started with now. Raises Unsettled."""
        return new_instance(vm, await self._choices.expand(vm))

    async def _update_live(self, scope: _Scope) -> _Scope:
        """Pass on to the instance what of the template can change while it runs."""
        vm, vmi = scope.vm, scope.vmi
        if vmi is None or is_deleting(vmi) or (vmi.get("status") or {}).get("phase") != "Running":
            return scope
        try:
            wanted = await self._plan_instance(vm)
        except Unsettled:  # said by `_settle`; the machine runs on as it was settled
            return scope
        update = plan_live_update(vm, vmi, wanted["spec"])
        patch: JsonObject = {}
        if update.spec is not None:
            patch["spec"] = merge_patch(vmi["spec"], update.spec)
        metadata: JsonObject = {"uid": vmi["metadata"]["uid"], **_version(vmi)}
        if update.annotations is not None:
            metadata["annotations"] = update.annotations
        if update.spec is not None or update.annotations is not None:
            vmi = await self._client.patch(INSTANCES, Key.of(vmi), {**patch, "metadata": metadata})
        return dataclasses.replace(scope, vmi=vmi, restart=update.restart)

    async def _remove_instance(self, vm: JsonObject, vmi: JsonObject) -> None:
        await self._client.ensure_absent(INSTANCES, Key.of(vmi), uid=vmi["metadata"]["uid"])
        self._events.record(
            vm,
            "Normal",
            "SuccessfulDelete",
            f"Stopped the virtual machine by deleting the virtual machine instance {vmi['metadata']['name']}",
        )

    # Both write the machine itself: the report belongs to the pass that the write wakes.

    async def _request_start(self, vm: JsonObject) -> Result:
        requests = [*((vm.get("status") or {}).get("stateChangeRequests") or []), {"action": "Start"}]
        body = {"metadata": _version(vm), "status": {"stateChangeRequests": requests}}
        await self._client.patch(MACHINES, Key.of(vm), body, subresource="status")
        return Done()

    async def _run_always(self, vm: JsonObject) -> Result:
        spec = {"running": True} if vm["spec"].get("running") is not None else {"runStrategy": "Always"}
        await self._client.patch(MACHINES, Key.of(vm), {"metadata": _version(vm), "spec": spec})
        return Done()

    async def _report(self, scope: _Scope, failure: Failure | None = None, *, settled: bool = True) -> None:
        now = utc_now()
        failure = failure or scope.made.failure
        disks = look_at_disks(scope.vm, self._claims.get, self._data_volumes.get)
        status = plan_status(scope.vm, scope.vmi, failure, now, disks=disks, settled=settled, restart=scope.restart)
        status |= self._marks.of(scope.vm, scope.vmi)
        status |= self._dumps.status(scope.vm, scope.vmi)
        wanted = plan_conditions(scope.vm, scope.vmi, failure, scope.restart)
        types = {entry["type"] for entry in wanted}
        status["conditions"] = merge_conditions([entry for entry in conditions_of(scope.vm) if entry["type"] in types], wanted, now=now)
        await write_status(self._client, MACHINES, scope.vm, status)

    async def _report_deletion(self, scope: _Scope) -> None:
        old = scope.vm.get("status") or {}
        await write_status(self._client, MACHINES, scope.vm, {**old, "created": scope.vmi is not None, "printableStatus": "Terminating"})

    async def _report_refusal(self, vm: JsonObject, message: str) -> None:
        old = vm.get("status") or {}
        conditions = merge_conditions(conditions_of(vm), [condition("Failure", True, "InvalidSpec", message)])
        await write_status(self._client, MACHINES, vm, {**old, "conditions": conditions})


def _version(obj: JsonObject) -> JsonObject:
    return {"resourceVersion": obj["metadata"]["resourceVersion"]}
