"""Moves a machine to another virtual host, as a VirtualMachineInstanceMigration asks. Phases and their words are KubeVirt's.

| phase | what holds | what is awaited |
|---|---|---|
| Pending | accepted | that the machine runs; older migrations, when many are under way |
| Scheduling | the machine can move, and the target's Pod exists | its binding |
| Scheduled | the Pod is bound to another virtual host | |
| PreparingTarget | the instance's status says that it moves, and where to | a process that waits for the guest |
| TargetReady | the process waits | |
| Running | memory is being copied | QEMU's word that the guest has moved |
| Succeeded, Failed | the machine is at the target, or still at the source | deletion |

Each pass reads everything anew and does one step, so an engine goes on where another one ended. That the guest has moved is written to the
instance before the first process ends: from then on only one side is left to look at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NAMESPACES, PODS
from pilvi.errors import (
    AlreadyExists,
    Forbidden,
    Invalid,
    MachineRefused,
    MachineUnreachable,
    NotFound,
    TimedOut,
    UnitFailed,
    UserError,
    format_chain,
)
from pilvi.lib.clock import format_time, parse_time, utc_now
from pilvi.providers.kubevirt.instance.controller import Instances
from pilvi.providers.kubevirt.instance.scope import Scope
from pilvi.providers.kubevirt.instance.starting import NO_IMAGE
from pilvi.providers.kubevirt.instance.status import Report, phase_of
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.kinds import INSTANCES, MIGRATIONS, POLICIES
from pilvi.providers.kubevirt.machines.backend import MachineBackend, NetworkNotReady
from pilvi.providers.kubevirt.machines.choice import find_boot_image
from pilvi.providers.kubevirt.machines.moves import MachineMoves, Move
from pilvi.providers.kubevirt.migration.policy import Rules, choose_policy, rules_of
from pilvi.providers.kubevirt.migration.queue import (
    FINAL_PHASES,
    WAITING_PHASES,
    find_hindrance,
    is_of_instance,
    machine_of,
    phase_of_migration,
)
from pilvi.providers.kubevirt.migration.state import active_pod, begun, ended, is_of, source_state, stands_still, with_target
from pilvi.providers.kubevirt.migration.target import new_target, target_name
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import get_size
from pilvi.providers.status import write_status
from pilvi.runtime import (
    Done,
    RequeueAfter,
    Result,
    Waiting,
    find_condition,
    has_finalizer,
    is_deleting,
    remove_finalizer,
)

__all__ = ["FIGURES", "MACHINE_LABEL", "MIGRATION_FINALIZER", "Migrations"]

MIGRATION_FINALIZER = "kubevirt.io/migrationJobFinalize"
MACHINE_LABEL = "kubevirt.io/vmi-name"
FIGURES = {"total_ms": "pilvi.dev/total-ms", "downtime_ms": "pilvi.dev/downtime-ms", "copied_bytes": "pilvi.dev/copied-bytes"}
"""Annotations of a migration that has succeeded: what QEMU has measured. KubeVirt's status has no place for that."""

STARTING_PHASES = ("", "Pending", "Scheduling", "Scheduled")
_LONGEST_UNSCHEDULABLE_S = 300.0
_RETRY_S = 1.0
_LOOK_S = 0.1
_MACHINE_ERRORS = (MachineRefused, MachineUnreachable, TimedOut, UserError, UnitFailed, OSError)


@dataclass(frozen=True)
class _Pass:
    """What one pass looks at. `target` is the target's Pod, None while there is none."""

    migration: JsonObject
    scope: Scope
    target: JsonObject | None
    moves: MachineMoves
    backend: MachineBackend


class Migrations:
    """The reconciler of VirtualMachineInstanceMigration."""

    def __init__(self, platform: Platform, hosts: Hosts, instances: Instances) -> None:
        self._address = str(platform.cloud.host_address.ip)
        self._client = platform.client
        self._events = platform.events
        self._hosts = hosts
        self._instances = instances
        self._migrations = platform.informers.get(MIGRATIONS)
        self._policies = platform.informers.get(POLICIES)
        self._namespaces = platform.informers.get(NAMESPACES)
        self._pods = platform.informers.get(PODS)
        self._steps: dict[str, Callable[[_Pass], Awaitable[Result]]] = {
            "Pending": self._accept,
            "Scheduling": self._await_binding,
            "Scheduled": self._announce,
            "PreparingTarget": self._prepare,
            "TargetReady": self._begin,
            "Running": self._follow,
        }

    async def reconcile(self, key: Key) -> Result:
        """One pass for the migration `key`."""
        migration = self._migrations.get(key)
        if migration is None:
            return Done()
        scope = self._instances.caches.find_scope(machine_of(migration))
        if scope is not None and not is_of_instance(migration, scope.vmi):
            scope = None
        if is_deleting(migration):
            return await self._call_off(migration, scope)
        phase = phase_of_migration(migration)
        if scope is None and phase not in WAITING_PHASES:
            # As in KubeVirt a migration goes with its machine.
            await self._client.ensure_absent(MIGRATIONS, key, uid=migration["metadata"]["uid"])
            return Done()
        if phase in FINAL_PHASES:
            if phase == "Failed":
                await self._drop_target(migration, scope)
            await remove_finalizer(self._client, MIGRATIONS, migration, MIGRATION_FINALIZER)
            return Done()
        migration = await self._mark(migration)
        if not phase:
            return await self._enter(migration, "Pending")
        if phase == "Pending" and (scope is None or phase_of(scope.vmi) in STARTING_PHASES):
            return Waiting("NotRunning", "the machine does not run yet")
        if scope is None:
            return Done()  # it was seen above
        found = self._pass_of(migration, scope)
        if isinstance(found, str):
            return await self._end(migration, "Failed", found)
        return await self._steps[phase](found)

    async def _mark(self, migration: JsonObject) -> JsonObject:
        """The finalizer, and the label by which `virtctl migrate-cancel` finds the migrations of a machine; both in one write."""
        name = machine_of(migration).name
        if has_finalizer(migration, MIGRATION_FINALIZER) and (migration["metadata"].get("labels") or {}).get(MACHINE_LABEL) == name:
            return migration
        metadata = migration["metadata"]
        finalizers = dict.fromkeys([*(metadata.get("finalizers") or ()), MIGRATION_FINALIZER])
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"metadata": {**guard, "finalizers": [*finalizers], "labels": {MACHINE_LABEL: name}}}
        return await self._client.patch(MIGRATIONS, Key.of(migration), body)

    def _pass_of(self, migration: JsonObject, scope: Scope) -> _Pass | str:
        """All that a step needs, or why there is nothing to move."""
        vmi = scope.vmi
        if is_deleting(vmi) or phase_of(vmi) != "Running":
            return f"the machine does not run: it is in phase {phase_of(vmi) or 'Pending'}"
        backend = self._instances.find_backend(scope.uid)
        if backend is None or backend.moves is None:
            return "nothing that can move runs the machine"
        target = self._pods.get(Key(scope.key.namespace, target_name(vmi, migration)))
        return _Pass(migration, scope, target, backend.moves, backend)

    async def _accept(self, now: _Pass) -> Result:
        migratable = find_condition(now.scope.vmi, "LiveMigratable") or {}
        if migratable.get("status") != "True":
            return await self._end(
                now.migration, "Failed", f"the machine cannot move: {migratable.get('message') or 'it is not known yet'}"
            )
        hindrance = find_hindrance(now.migration, now.scope.vmi, self._migrations.list(), self._instances.caches.instances.get)
        if hindrance:
            return Waiting("Queued", hindrance, retry_s=_RETRY_S)
        vmi = now.scope.vmi
        overhead_bytes = now.backend.overhead_bytes(get_size(vmi["spec"]))
        image = find_boot_image(vmi["spec"]) or NO_IMAGE
        try:
            pod = await self._client.create(PODS, new_target(vmi, now.migration, image, overhead_bytes))
            self._events.record(now.migration, "Normal", "SuccessfulCreate", f"Created migration target pod {pod['metadata']['name']}")
        except AlreadyExists:
            pass
        except (Forbidden, Invalid) as e:
            return await self._end(now.migration, "Failed", f"the target's Pod cannot be made: {format_chain(e)}")
        return await self._enter(now.migration, "Scheduling", {"migrationState": {"sourceState": source_state(vmi)}})

    async def _await_binding(self, now: _Pass) -> Result:
        if now.target is None:
            return await self._without_target(now)
        if self._hosts.owns(now.target["spec"].get("nodeName")):
            return await self._enter(now.migration, "Scheduled")
        since = parse_time(now.migration["status"]["phaseTransitionTimestamps"][-1]["phaseTransitionTimestamp"])
        left_s = (since + timedelta(seconds=_LONGEST_UNSCHEDULABLE_S) - utc_now()).total_seconds()
        refusal = (find_condition(now.target, "PodScheduled") or {}).get("message") or "the scheduler has not chosen a host"
        if left_s <= 0:
            return await self._fail(now, f"no host takes the machine: {refusal}")
        return Waiting("Unscheduled", refusal, retry_s=left_s)

    async def _announce(self, now: _Pass) -> Result:
        if now.target is None:
            return await self._without_target(now)
        if not is_of(now.scope.vmi, now.migration):
            rules, policy = self._rules(now.scope.vmi)
            name = policy["metadata"]["name"] if policy else None
            patch = begun(now.scope.vmi, now.migration, now.target, rules.configuration, name, utc_now())
            await self._write_instance(now.scope.vmi, patch)
            self._events.record(now.scope.vmi, "Normal", "Migrating", "VirtualMachineInstance is migrating.")
        return await self._enter(now.migration, "PreparingTarget")

    async def _prepare(self, now: _Pass) -> Result:
        if now.target is None or is_deleting(now.target):
            return await self._without_target(now)
        try:
            await now.moves.prepare(await self._instances.starting.find_spec(now.scope))
        except (NetworkNotReady, VolumeNotReady) as e:
            return Waiting("TargetNotReady", format_chain(e), retry_s=_RETRY_S)
        except _MACHINE_ERRORS as e:
            return await self._fail(now, f"no process can wait for the guest: {format_chain(e)}")
        report = Report("Running", ready_message="the guest is about to arrive", machine=now.backend.state(now.scope.uid))
        await self._instances.reporter.report_pod(dataclasses.replace(now.scope, pod=now.target), report)
        await self._write_instance(now.scope.vmi, with_target(self._address, utc_now()))
        return await self._enter(now.migration, "TargetReady")

    async def _begin(self, now: _Pass) -> Result:
        if now.target is None or is_deleting(now.target):
            return await self._without_target(now)
        try:
            if not _stands_still(now) and await now.moves.must_stand_still(now.scope.uid):
                now = await self._write_pause(now)
            if _stands_still(now):
                await now.moves.pause(now.scope.uid)
            await now.moves.begin(now.scope.uid, self._rules(now.scope.vmi)[0].settings)
        except _MACHINE_ERRORS as e:
            return await self._fail(now, f"the machine cannot be moved: {format_chain(e)}")
        await self._enter(now.migration, "Running")
        return RequeueAfter(_LOOK_S)

    async def _follow(self, now: _Pass) -> Result:
        if (now.scope.vmi["status"]["migrationState"] or {}).get("completed"):
            return await self._succeed(now, Move("completed"))
        try:
            move = await now.moves.look(now.scope.uid)
            if move.phase == "prepared":
                return await self._begin(now)
        except (MachineUnreachable, TimedOut) as e:
            return Waiting("Unheard", format_chain(e), retry_s=_RETRY_S)
        except MachineRefused as e:
            return await self._fail(now, format_chain(e))
        if move.phase == "completed":
            return await self._succeed(now, move)
        if move.phase != "running":
            return await self._fail(now, move.message or "the process that waited for the guest is gone")
        if now.target is None or is_deleting(now.target):
            return await self._without_target(now)
        if self._hosts.has_failed(now.target["spec"].get("nodeName")):
            return await self._fail(now, f"virtual host {now.target['spec'].get('nodeName')} has failed")
        return await self._hurry(now)

    async def _hurry(self, now: _Pass) -> Result:
        """A guest that writes faster than its memory is copied would never arrive."""
        state = now.scope.vmi["status"]["migrationState"]
        rules = self._rules(now.scope.vmi)[0]
        elapsed_s = (utc_now() - parse_time(state["startTimestamp"])).total_seconds()
        if not _stands_still(now):
            if not rules.longest_s or elapsed_s < rules.longest_s:
                return RequeueAfter(_LOOK_S)
            if not rules.may_pause:
                return await self._fail(
                    now, f"the guest has not moved within {rules.longest_s:.0f} s; it writes faster than its memory is copied"
                )
            now = await self._write_pause(now)
        await now.moves.pause(now.scope.uid)  # in each pass: who has written it may have died before it was done
        return RequeueAfter(_LOOK_S)

    async def _write_pause(self, now: _Pass) -> _Pass:
        """Write that the guest stands still until the move has ended, before it does: so the next engine lets it run on."""
        vmi = await self._write_instance(now.scope.vmi, {"migrationState": {"mode": "Paused"}})
        return dataclasses.replace(now, scope=dataclasses.replace(now.scope, vmi=vmi))

    async def _succeed(self, now: _Pass, move: Move) -> Result:
        """The guest is the target's. Written first, since nobody could tell it from the processes any more."""
        vmi, migration = now.scope.vmi, now.migration
        state = vmi["status"]["migrationState"]
        if move.total_ms:
            figures = {name: str(getattr(move, field)) for field, name in FIGURES.items()}
            await self._client.patch(
                MIGRATIONS, Key.of(migration), {"metadata": {"uid": migration["metadata"]["uid"], "annotations": figures}}
            )
        if not state.get("completed"):
            vmi = await self._write_instance(vmi, ended(vmi, now.target, utc_now()))
            self._events.record(
                vmi,
                "Normal",
                "Migrated",
                f"The VirtualMachineInstance migrated to node {state['targetNode']} ({move.downtime_ms} ms standing still).",
            )
        await now.moves.finish(now.scope.uid, resume=_stands_still(now))
        await self._drop_pod(now.scope.key.namespace, state["sourcePod"])
        return await self._end(migration, "Succeeded", "", vmi)

    async def _without_target(self, now: _Pass) -> Result:
        name = target_name(now.scope.vmi, now.migration)
        pod = await self._client.find(PODS, Key(now.scope.key.namespace, name))  # the cache may be behind
        if pod is not None and not is_deleting(pod):
            return Waiting("PodExists", "the target's Pod is there, but not in the cache yet", retry_s=_RETRY_S)
        return await self._fail(now, f"the target's Pod {name} was deleted")

    async def _fail(self, now: _Pass, why: str, *, aborted: bool = False) -> Result:
        """Leave the guest where it is; unless it has moved meanwhile, which counts."""
        if await now.moves.abandon(now.scope.uid, resume=_stands_still(now)):
            return await self._succeed(now, Move("completed"))
        vmi = now.scope.vmi
        if is_of(vmi, now.migration) and not vmi["status"]["migrationState"].get("completed"):
            vmi = await self._write_instance(vmi, ended(vmi, None, utc_now(), failure=why, aborted=aborted))
        await self._drop_target(now.migration, now.scope)
        self._events.record(now.migration, "Warning", "FailedMigration", f"Source node reported migration failed: {why}")
        return await self._end(now.migration, "Failed", why, vmi)

    async def _call_off(self, migration: JsonObject, scope: Scope | None) -> Result:
        """The migration is being deleted: end what is under way, then let it go."""
        if not has_finalizer(migration, MIGRATION_FINALIZER):
            return Done()
        if scope is not None and phase_of_migration(migration) not in FINAL_PHASES:
            found = self._pass_of(migration, scope)
            if isinstance(found, _Pass):
                await self._fail(found, "the migration was called off", aborted=True)
                migration = await self._client.get(MIGRATIONS, Key.of(migration))
        await self._drop_target(migration, scope)
        await remove_finalizer(self._client, MIGRATIONS, migration, MIGRATION_FINALIZER)
        return Done()

    def _rules(self, vmi: JsonObject) -> tuple[Rules, JsonObject | None]:
        namespace = self._namespaces.get(Key("", vmi["metadata"]["namespace"])) or {"metadata": {}}
        labels = [obj["metadata"].get("labels") or {} for obj in (vmi, namespace)]
        policy = choose_policy(self._policies.list(), *labels)
        return rules_of(policy, get_size(vmi["spec"]).memory_bytes), policy

    async def _write_instance(self, vmi: JsonObject, patch: JsonObject) -> JsonObject:
        guard = {"uid": vmi["metadata"]["uid"], "resourceVersion": vmi["metadata"]["resourceVersion"]}
        return await self._client.patch(INSTANCES, Key.of(vmi), {"metadata": guard, "status": patch})

    async def _drop_target(self, migration: JsonObject, scope: Scope | None) -> None:
        """The target's Pod, when it is not the machine's by now."""
        vmi = await self._client.find(INSTANCES, scope.key) if scope is not None else None  # the cache may be behind
        if scope is None or vmi is None or vmi["metadata"]["uid"] != scope.uid:
            return  # the Pod is owned by the instance, and goes with it
        name = target_name(vmi, migration)
        if active_pod(vmi) != name:
            await self._drop_pod(scope.key.namespace, name)

    async def _drop_pod(self, namespace: str, name: str) -> None:
        pod = self._pods.get(Key(namespace, name))
        if pod is not None:
            await self._client.ensure_absent(PODS, Key.of(pod), uid=pod["metadata"]["uid"], grace_s=0)

    async def _enter(self, migration: JsonObject, phase: str, more: JsonObject | None = None) -> Result:
        """Enter a phase; the write wakes the pass of the next step."""
        await self._write(migration, phase, more or {})
        return Done()

    async def _end(self, migration: JsonObject, phase: str, why: str, vmi: JsonObject | None = None) -> Result:
        state = {}
        if vmi is not None and is_of(vmi, migration):
            state = {"migrationState": vmi["status"]["migrationState"]}
        elif why:
            state = {"migrationState": {"completed": True, "failed": True, "failureReason": why, "endTimestamp": format_time(utc_now())}}
        if phase == "Failed" and vmi is None:
            self._events.record(migration, "Warning", "FailedMigration", why)
        try:
            await self._write(migration, phase, state)
        except NotFound:
            return Done()
        return Done()

    async def _write(self, migration: JsonObject, phase: str, more: JsonObject) -> None:
        current = await self._client.get(MIGRATIONS, Key.of(migration))
        old = current.get("status") or {}
        moment = {"phase": phase, "phaseTransitionTimestamp": format_time(utc_now())}
        status = {**old, **more, "phase": phase, "phaseTransitionTimestamps": [*(old.get("phaseTransitionTimestamps") or []), moment]}
        await write_status(self._client, MIGRATIONS, current, status)


def _stands_still(now: _Pass) -> bool:
    """Whether the guest is paused for this move, and not because somebody wants it to be."""
    return is_of(now.scope.vmi, now.migration) and stands_still(now.scope.vmi)
