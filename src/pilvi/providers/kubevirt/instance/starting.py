"""Towards running: the Pod, its binding, and the machine's first process."""

from __future__ import annotations

import dataclasses

from pilvi.api import JsonObject
from pilvi.api.builtin import PODS
from pilvi.api.resource import Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UnitFailed, UserError, format_chain
from pilvi.images import Pulls
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.instance.attachments import Attached, Attachments, in_order
from pilvi.providers.kubevirt.instance.attendants import Attendants
from pilvi.providers.kubevirt.instance.backends import fidelity
from pilvi.providers.kubevirt.instance.keeper import find_keeper
from pilvi.providers.kubevirt.instance.memorydump import MemoryDumps
from pilvi.providers.kubevirt.instance.network import NoLeg, find_failures, plan_interfaces, plan_legs
from pilvi.providers.kubevirt.instance.pod import new_launcher
from pilvi.providers.kubevirt.instance.reporter import Reporter
from pilvi.providers.kubevirt.instance.resizing import Resizing, find_granted, size_conditions
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.shortage import describe_shortage
from pilvi.providers.kubevirt.instance.status import Report, phase_of
from pilvi.providers.kubevirt.instance.user import MachineUsers
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks
from pilvi.providers.kubevirt.instance.volumes.filesets import FileDisks
from pilvi.providers.kubevirt.instance.volumes.images import ContainerDisks
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.instance.volumes.resolve import Volumes
from pilvi.providers.kubevirt.instance.volumestatus import find_arrived, plan_volume_status
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineLeg, MachineSpec, MachineState, NetworkNotReady, find_leg
from pilvi.providers.kubevirt.machines.choice import find_boot_image
from pilvi.providers.kubevirt.machines.ignition import find_ignition
from pilvi.providers.kubevirt.machines.volumes import MachineVolume
from pilvi.providers.kubevirt.migration.state import active_pod
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualhost.pressure import describe_pressure
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import Size, find_cpu_limit, get_size
from pilvi.runtime import Done, Failed, RequeueAfter, Result, Waiting

__all__ = ["Starting"]

FIRST_BOOT_LOOK_S = 1.0
LOOK_FOR_ROOM_S = 20.0
NO_IMAGE = "pilvi.dev/no-container-disk"
"""What stands for an image in the Pod of a machine that has none: a Pod must name one."""


class Starting:
    """What is done with an instance that shall run and whose backend is chosen. `hosts` are those that it acts for."""

    def __init__(
        self,
        platform: Platform,
        hosts: Hosts,
        caches: Caches,
        reporter: Reporter,
        pulls: Pulls,
        attendants: Attendants,
        claims: ClaimDisks,
        attachments: Attachments,
        dumps: MemoryDumps,
    ) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._hosts = hosts
        self._caches = caches
        self._reporter = reporter
        self._attendants = attendants
        self._claims = claims
        self._volumes = Volumes(caches, ContainerDisks(pulls, caches), self._claims, FileDisks(platform.client, caches))
        self._users = MachineUsers(platform, caches)
        self._attachments = attachments
        self._resizing = Resizing(platform, caches)
        self._dumps = dumps

    async def start(self, scope: Scope, backend: MachineBackend) -> Result:
        """One step: make the Pod, wait for its binding, or have the machine run."""
        if scope.pod is None:
            return await self._make_pod(scope, backend)
        if not self._hosts.owns(host := scope.pod["spec"].get("nodeName")):
            # Unbound, or bound to a host whose engine has to act.
            pressure = describe_pressure(self._hosts.find(self._hosts.wanted[0]))
            shortage = describe_shortage(scope.pod, self._caches.nodes.list())
            report = _scheduling(scope.pod, backend, "; ".join(words for words in (shortage, pressure) if words))
            await self._reporter.report(scope, self._with_claims(scope, report))
            return Done()
        if self._hosts.has_failed(host):
            return await self._lose(scope, backend, host)
        return await self._run(scope, scope.pod, backend)

    def _with_claims(self, scope: Scope, report: Report) -> Report:
        """A claim that is not there or not bound is said before the scheduler's words about it."""
        try:
            self._claims.check(scope)
        except VolumeNotReady as e:
            refusal = (e.reason, format_chain(e)) if e.failed else None
            return dataclasses.replace(report, ready_reason=e.reason, ready_message=format_chain(e), refusal=refusal)
        return report

    async def _make_pod(self, scope: Scope, backend: MachineBackend) -> Result:
        vmi = scope.vmi
        if phase_of(vmi) not in ("", "Pending"):
            # The cache may be behind, and this ends a machine: ask, also which Pod is the machine's, since it may have moved.
            stored = await self._client.find(INSTANCES, scope.key) or vmi
            if await self._client.find(PODS, Key(scope.key.namespace, active_pod(stored))) is not None:
                return Waiting("PodExists", "the Pod is there, but not in the cache yet", retry_s=1.0)
            # Deleted by force: the machine may be running still, and nobody but us can end it.
            await backend.stop(scope.uid, scope.grace_s)
            message = "the virt-launcher Pod was deleted by force"
            self._events.record(vmi, "Warning", "Stopped", f"The VirtualMachineInstance crashed: {message}")
            await self._reporter.report(scope, Report("Failed", "PodNotExists", message, fidelity=fidelity(backend)))
            return Done()
        try:
            overhead_bytes = backend.overhead_bytes(get_size(vmi["spec"]))
            pod = await self._client.create(PODS, new_launcher(vmi, find_boot_image(vmi["spec"]) or NO_IMAGE, overhead_bytes))
        except AlreadyExists:
            return Waiting("PodExists", "the Pod is there, but not in the cache yet", retry_s=1.0)
        except (Forbidden, Invalid) as e:
            # A quota, a limit range, a namespace whose default ServiceAccount is not there yet.
            message = f"the virt-launcher Pod cannot be made: {format_chain(e)}"
            refusal = ("FailedCreate", message)
            await self._reporter.report(scope, Report("Pending", "PodNotExists", message, refusal=refusal, fidelity=fidelity(backend)))
            self._events.record(vmi, "Warning", "FailedCreate", message)
            return Failed(message)
        self._events.record(vmi, "Normal", "SuccessfulCreate", f"Created virtual machine pod {pod['metadata']['name']}")
        await self._reporter.report(scope, _scheduling(pod, backend))
        return Done()

    async def _lose(self, scope: Scope, backend: MachineBackend, host: str) -> Result:
        """Its host has failed: the machine's process ends at once, and is gone before anybody may start the next one on its disks."""
        await backend.kill(scope.uid)
        await self._end(scope, backend, MachineState("failed", message=f"virtual host {host} has failed"))
        return Done()

    async def _run(self, scope: Scope, pod: JsonObject, backend: MachineBackend) -> Result:
        legs = plan_legs(self._cloud, scope.links, running=backend.state(scope.uid).phase in ("running", "paused"))
        if isinstance(legs, NoLeg):
            return await self._wait(scope, backend, "NetworkNotReady", legs.message)
        try:
            attached = await self._attachments.ensure(scope)
            if attached.soon and phase_of(scope.vmi) != "Running":
                return await self._wait(scope, backend, "ContainerCreating", "the Pods of its disks are being scheduled")
            granted = await self._resizing.grant(scope, pod, backend)
            machine = await backend.ensure(await self._spec(scope, legs, attached, granted.size))
            dumped = await self._dumps.look(scope, backend, machine, attached)
        except NetworkNotReady as e:
            # The last write of the controller that makes it wakes us; the retry is for a signal that got lost.
            return await self._wait(scope, backend, "NetworkNotReady", format_chain(e), retry_s=1.0)
        except VolumeNotReady as e:
            return await self._wait(scope, backend, e.reason, format_chain(e), retry_s=e.retry_after_s, failed=e.failed)
        except (UserError, UnitFailed, OSError) as e:
            message = format_chain(e)
            await self._wait(scope, backend, "MachineNotStarted", message)
            self._events.record(scope.vmi, "Warning", "FailedStart", message)
            return Failed(message)
        if machine.phase in ("succeeded", "failed"):
            return await self._end(scope, backend, machine)
        first = phase_of(scope.vmi) != "Running" and machine.phase in ("running", "paused")
        attended = self._attendants.look(scope, backend, find_leg(legs), machine)
        is_unready = machine.phase == "running" and bool(attended.unready)
        report = Report(
            "Running" if first or phase_of(scope.vmi) == "Running" else "Scheduled",
            "ContainersNotReady" if is_unready else "GuestNotRunning",
            attended.unready if is_unready else machine.message,
            machine,
            scope.pod,
            plan_interfaces(legs, machine.cards, (scope.vmi.get("status") or {}).get("interfaces") or ()),
            fidelity=fidelity(backend),
            unready=attended.unready,
            conditions=attended.conditions,
            volumes=self._volume_status(scope, machine, attached, dumped.entries),
            size=granted.size,
            size_conditions=size_conditions(get_size(scope.vmi["spec"]), granted, machine),
        )
        await self._reporter.report_pod(scope, report)
        await self._reporter.report(scope, report)
        for entry in find_arrived(scope.vmi, report.volumes or []):
            self._events.record(scope.vmi, "Normal", entry["reason"], entry["message"])
        for failure in find_failures(machine):
            self._events.record(scope.vmi, "Warning", "InterfaceNotChanged", failure)
        await self._attachments.release(scope, attached, machine, dumped.written)
        await self._resizing.give_back(scope, pod, backend, granted, machine)
        if first:
            self._events.record(scope.vmi, "Normal", "Started", "VirtualMachineInstance started.")
        if dumped.look_again_s is not None:
            return RequeueAfter(dumped.look_again_s)
        if granted.refusal:
            return RequeueAfter(LOOK_FOR_ROOM_S)
        if machine.look_again_s is not None:
            return RequeueAfter(machine.look_again_s)
        if machine.phase != "running" or machine.first_boot is not None or machine.started_at is None:
            return Done()
        # Nothing tells us that the guest's first boot has ended. It does within seconds; one that hangs is looked at ever less often.
        age_s = (utc_now() - machine.started_at).total_seconds()
        return RequeueAfter(max(FIRST_BOOT_LOOK_S, age_s / 10))

    async def find_spec(self, scope: Scope) -> MachineSpec:
        """The machine of an instance that runs, for who starts it elsewhere. Raises as the start of a machine does, NetworkNotReady."""
        legs = plan_legs(self._cloud, scope.links, running=False)
        if isinstance(legs, NoLeg):
            raise NetworkNotReady(legs.message)
        return await self._spec(scope, legs, await self._attachments.ensure(scope), find_granted(scope.vmi, get_size(scope.vmi["spec"])))

    async def _spec(self, scope: Scope, legs: tuple[MachineLeg, ...], attached: Attached, size: Size) -> MachineSpec:
        volumes = in_order(scope.vmi, [*await self._volumes.resolve(scope), *attached.disks])
        return dataclasses.replace(
            _machine_spec(scope, legs, volumes, await self._users.ensure(scope.vmi), size),
            kernel=self._volumes.resolve_kernel(scope),
            keeper=find_keeper(scope.vmi, self._caches.machines.get(scope.key)),
        )

    def _volume_status(self, scope: Scope, machine: MachineState, attached: Attached, dumps: dict[str, JsonObject]) -> list[JsonObject]:
        return plan_volume_status(scope.vmi, machine, attached, lambda name: self._caches.claims.get(Key(scope.key.namespace, name)), dumps)

    async def _end(self, scope: Scope, backend: MachineBackend, machine: MachineState) -> Result:
        """The guest has ended by itself. Its process is ended by the pass that this write wakes."""
        succeeded = machine.phase == "succeeded"
        report = Report(
            "Succeeded" if succeeded else "Failed", "GuestNotRunning", machine.message, pod=scope.pod, fidelity=fidelity(backend)
        )
        if succeeded:
            self._events.record(scope.vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        else:
            self._events.record(scope.vmi, "Warning", "Stopped", f"The VirtualMachineInstance crashed: {machine.message}")
        await self._reporter.report_pod(scope, report)
        await self._reporter.report(scope, report)
        return Done()

    async def _wait(
        self, scope: Scope, backend: MachineBackend, reason: str, message: str, retry_s: float = 30.0, *, failed: bool = False
    ) -> Result:
        machine = backend.state(scope.uid)
        phase = phase_of(scope.vmi)
        phase = "Running" if phase == "Running" else "Scheduled"
        refusal = (reason, message) if failed else None
        report = Report(phase, reason, message, machine, scope.pod, refusal=refusal, fidelity=fidelity(backend))
        await self._reporter.report_pod(scope, report)
        if await self._reporter.report(scope, report) and failed:
            self._events.record(scope.vmi, "Warning", "Failed", message)
        return Waiting(reason, message, retry_s=retry_s)


def _scheduling(pod: JsonObject, backend: MachineBackend, pressure: str = "") -> Report:
    message = "the scheduler has not chosen a host yet"
    return Report("Scheduling", "PodNotReady", message, pod=pod, fidelity=fidelity(backend), pressure=pressure)


def _machine_spec(scope: Scope, legs: tuple[MachineLeg, ...], volumes: tuple[MachineVolume, ...], user: int, size: Size) -> MachineSpec:
    metadata, spec = scope.vmi["metadata"], scope.vmi["spec"]
    return MachineSpec(
        uid=scope.uid,
        name=spec.get("hostname") or metadata["name"],
        namespace=metadata["namespace"],
        instance=spec,
        size=size,
        legs=legs,
        volumes=volumes,
        user=user,
        cpu_milli=find_cpu_limit(spec),
        stop_grace_s=scope.grace_s,
        ignition=find_ignition(scope.vmi),
    )
