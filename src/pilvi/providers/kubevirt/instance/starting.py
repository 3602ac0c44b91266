"""Towards running: the Pod, its binding, and the machine's first process."""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.api.builtin import PODS
from pilvi.api.resource import Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UnitFailed, UserError, format_chain
from pilvi.images import Pulls
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.instance.backends import fidelity
from pilvi.providers.kubevirt.instance.network import NoLeg, plan_interfaces, plan_leg
from pilvi.providers.kubevirt.instance.pod import new_launcher
from pilvi.providers.kubevirt.instance.reporter import Reporter
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import Report, phase_of
from pilvi.providers.kubevirt.instance.user import MachineUsers
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks
from pilvi.providers.kubevirt.instance.volumes.images import ContainerDisks
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.instance.volumes.resolve import Volumes
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineLeg, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.choice import find_boot_image
from pilvi.providers.kubevirt.machines.volumes import MachineVolume
from pilvi.providers.kubevirt.migration.state import active_pod
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualhost.pressure import describe_pressure
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import find_cpu_limit, get_size
from pilvi.runtime import Done, Failed, RequeueAfter, Result, Waiting

__all__ = ["Starting"]

FIRST_BOOT_LOOK_S = 1.0
NO_IMAGE = "pilvi.dev/no-container-disk"
"""What stands for an image in the Pod of a machine that has none: a Pod must name one."""


class Starting:
    """What is done with an instance that shall run and whose backend is chosen. `hosts` are those that it acts for."""

    def __init__(self, platform: Platform, hosts: Hosts, caches: Caches, reporter: Reporter, pulls: Pulls) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._hosts = hosts
        self._caches = caches
        self._reporter = reporter
        self._volumes = Volumes(caches, ContainerDisks(pulls, caches), ClaimDisks(platform.cloud, caches))
        self._users = MachineUsers(platform, caches)

    async def start(self, scope: Scope, backend: MachineBackend) -> Result:
        """One step: make the Pod, wait for its binding, or have the machine run."""
        if scope.pod is None:
            return await self._make_pod(scope, backend)
        if not self._hosts.owns(host := scope.pod["spec"].get("nodeName")):
            # Unbound, or bound to a host whose engine has to act.
            pressure = describe_pressure(self._hosts.find(self._hosts.wanted[0]))
            await self._reporter.report(scope, _scheduling(scope.pod, backend, pressure))
            return Done()
        if self._hosts.has_failed(host):
            return await self._lose(scope, backend, host)
        return await self._run(scope, backend)

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

    async def _run(self, scope: Scope, backend: MachineBackend) -> Result:
        leg = plan_leg(self._cloud, scope.ip, scope.subnet, scope.vpc)
        if isinstance(leg, NoLeg):
            return await self._wait(scope, backend, "NetworkNotReady", leg.message)
        try:
            machine = await backend.ensure(await self._spec(scope, leg))
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
        report = Report(
            "Running" if first or phase_of(scope.vmi) == "Running" else "Scheduled",
            "GuestNotRunning",
            machine.message,
            machine,
            scope.pod,
            plan_interfaces(scope.vmi["spec"], leg),
            fidelity=fidelity(backend),
        )
        await self._reporter.report_pod(scope, report)
        await self._reporter.report(scope, report)
        if first:
            self._events.record(scope.vmi, "Normal", "Started", "VirtualMachineInstance started.")
        if machine.phase != "running" or machine.first_boot is not None or machine.started_at is None:
            return Done()
        # Nothing tells us that the guest's first boot has ended. It does within seconds; one that hangs is looked at ever less often.
        age_s = (utc_now() - machine.started_at).total_seconds()
        return RequeueAfter(max(FIRST_BOOT_LOOK_S, age_s / 10))

    async def find_spec(self, scope: Scope) -> MachineSpec:
        """The machine of an instance, for who starts it elsewhere. Raises as the start of a machine does, NetworkNotReady without a leg."""
        leg = plan_leg(self._cloud, scope.ip, scope.subnet, scope.vpc)
        if isinstance(leg, NoLeg):
            raise NetworkNotReady(leg.message)
        return await self._spec(scope, leg)

    async def _spec(self, scope: Scope, leg: MachineLeg) -> MachineSpec:
        return _machine_spec(scope, leg, self._volumes.resolve(scope), await self._users.ensure(scope.vmi))

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


def _machine_spec(scope: Scope, leg: MachineLeg, volumes: tuple[MachineVolume, ...], user: int) -> MachineSpec:
    metadata, spec = scope.vmi["metadata"], scope.vmi["spec"]
    return MachineSpec(
        uid=scope.uid,
        name=spec.get("hostname") or metadata["name"],
        namespace=metadata["namespace"],
        instance=spec,
        size=get_size(spec),
        leg=leg,
        volumes=volumes,
        user=user,
        cpu_milli=find_cpu_limit(spec),
        stop_grace_s=scope.grace_s,
    )
