"""Makes each VirtualMachineInstance run, and acts as the kubelet of its virt-launcher Pod.

The way of an instance: a Pod is made for it, the real scheduler binds the Pod to the virtual host, the machine is started there,
and what the machine does is written to Pod and instance. Every pass starts from what is there, so a new engine adopts what runs.

| phase | what holds | what is awaited |
|---|---|---|
| Pending | accepted, or refused with a reason | the Pod |
| Scheduling | the Pod exists | its binding |
| Scheduled | the Pod is bound to the virtual host | address, network, the machine's first process |
| Running | the machine has run; Ready says whether it does now | its end |
| Succeeded, Failed | the machine has ended and is not started again | deletion of the instance |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pilvi.api import JsonObject
from pilvi.api.builtin import PODS
from pilvi.api.resource import Key
from pilvi.errors import AlreadyExists, DriverError, Forbidden, Invalid, NotFound, UnitFailed, UserError, format_chain
from pilvi.lib.clock import format_time, utc_now
from pilvi.providers.kubevirt.instance.grace import stop_within
from pilvi.providers.kubevirt.instance.network import NoLeg, plan_interfaces, plan_leg
from pilvi.providers.kubevirt.instance.pod import launcher_name, new_launcher, plan_pod_status
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, Report, phase_of, plan_status
from pilvi.providers.kubevirt.instance.sweep import MachineSweep
from pilvi.providers.kubevirt.instance.userdata import decode_secret, find_user_data
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineLeg, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.choice import Refusal, choose_backend, get_boot_image
from pilvi.providers.kubevirt.virtualhost.pressure import describe_pressure
from pilvi.providers.kubevirt.virtualmachine.instance import INSTANCE_FINALIZER
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import find_cpu_limit, get_size
from pilvi.providers.status import write_status
from pilvi.runtime import (
    Done,
    Failed,
    RequeueAfter,
    Result,
    Waiting,
    ensure_finalizer,
    has_finalizer,
    is_deleting,
    merge_conditions,
    remove_finalizer,
)

__all__ = ["Instances"]

FIRST_BOOT_LOOK_S = 1.0


class Instances:
    """The reconciler of VirtualMachineInstance. `host` is the name of the virtual host's Node, `backends` the backends by name."""

    def __init__(self, platform: Platform, host: str, backends: Mapping[str, MachineBackend], sweep: MachineSweep) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._caches = Caches(platform.informers)
        self._host = host
        self._backends = backends
        self._sweep = sweep

    async def reconcile(self, key: Key) -> Result:
        """One pass for the instance `key`."""
        scope = self._caches.find_scope(key)
        if scope is None:  # also for the key of no instance, by which the host's first Lease wakes
            await self._sweep.run()
            return Done()
        if is_deleting(scope.vmi):
            return await self._delete(scope)
        if phase_of(scope.vmi) in FINAL_PHASES:
            return await self._rest(scope)
        return await self._run(scope)

    # Towards running

    async def _run(self, scope: Scope) -> Result:
        await ensure_finalizer(self._client, INSTANCES, scope.vmi, INSTANCE_FINALIZER)
        choice = self._choose(scope.vmi)
        if isinstance(choice, Refusal):
            return await self._refuse(scope, choice)
        backend, version = choice
        if scope.pod is None:
            return await self._make_pod(scope, backend)
        if is_deleting(scope.pod):
            return await self._evict(scope, scope.pod, backend)
        if scope.pod["spec"].get("nodeName") != self._host:
            # Unbound, or bound to a host whose engine has to act.
            pressure = describe_pressure(self._caches.nodes.get(Key("", self._host)))
            await self._report(scope, _scheduling(scope.pod, backend, pressure))
            return Done()
        return await self._start(scope, backend, version)

    def _choose(self, vmi: JsonObject) -> tuple[MachineBackend, str] | Refusal:
        running = self._find_backend(vmi["metadata"]["uid"])
        choice = choose_backend(vmi, self._cloud.machines, running.name if running is not None else None)
        if isinstance(choice, Refusal):
            return choice
        try:
            get_size(vmi["spec"])
            find_user_data(vmi)
        except UserError as e:
            return Refusal("InvalidSpec", format_chain(e))
        name, version = choice
        return self._backends[name], version

    def _find_backend(self, uid: str) -> MachineBackend | None:
        """The backend that runs the machine now, or None."""
        return next((backend for backend in self._backends.values() if backend.state(uid).phase != "absent"), None)

    async def _refuse(self, scope: Scope, refusal: Refusal) -> Result:
        """No machine can be made of this instance: say so, and leave nothing half-made."""
        phase, running = phase_of(scope.vmi), self._find_backend(scope.uid)
        report = Report("Pending", "PodNotExists", refusal.message, refusal=(refusal.reason, refusal.message))
        if phase not in ("", "Pending"):
            # It went further once, before a power cut or under another pilvi; as in KubeVirt no phase ever goes back.
            machine = running.state(scope.uid) if running is not None else MachineState("absent")
            report = dataclasses.replace(report, phase=phase, ready_reason="GuestNotRunning", machine=machine, pod=scope.pod)
        if await self._report(scope, report):
            self._events.record(scope.vmi, "Warning", refusal.reason, refusal.message)
        return Failed(f"{refusal.reason}: {refusal.message}", permanent=True)

    async def _make_pod(self, scope: Scope, backend: MachineBackend) -> Result:
        vmi = scope.vmi
        if phase_of(vmi) not in ("", "Pending"):
            # The cache may be behind, and this ends a machine: ask.
            if await self._client.find(PODS, Key(scope.key.namespace, launcher_name(vmi))) is not None:
                return Waiting("PodExists", "the Pod is there, but not in the cache yet", retry_s=1.0)
            # Deleted by force: the machine may be running still, and nobody but us can end it.
            await backend.stop(scope.uid, scope.grace_s)
            message = "the virt-launcher Pod was deleted by force"
            self._events.record(vmi, "Warning", "Stopped", f"The VirtualMachineInstance crashed: {message}")
            await self._report(scope, Report("Failed", "PodNotExists", message, fidelity=_fidelity(backend)))
            return Done()
        try:
            pod = await self._client.create(PODS, new_launcher(vmi, get_boot_image(vmi["spec"]) or ""))
        except AlreadyExists:
            return Waiting("PodExists", "the Pod is there, but not in the cache yet", retry_s=1.0)
        except (Forbidden, Invalid) as e:
            # A quota, a limit range, a namespace whose default ServiceAccount is not there yet.
            message = f"the virt-launcher Pod cannot be made: {format_chain(e)}"
            refusal = ("FailedCreate", message)
            await self._report(scope, Report("Pending", "PodNotExists", message, refusal=refusal, fidelity=_fidelity(backend)))
            self._events.record(vmi, "Warning", "FailedCreate", message)
            return Failed(message)
        self._events.record(vmi, "Normal", "SuccessfulCreate", f"Created virtual machine pod {pod['metadata']['name']}")
        await self._report(scope, _scheduling(pod, backend))
        return Done()

    async def _start(self, scope: Scope, backend: MachineBackend, version: str) -> Result:
        leg = plan_leg(self._cloud, scope.ip, scope.subnet, scope.vpc)
        if isinstance(leg, NoLeg):
            return await self._wait(scope, backend, "NetworkNotReady", leg.message)
        try:
            user_data = self._read_user_data(scope)
            machine = await backend.ensure(_machine_spec(scope, leg, version, user_data))
        except NetworkNotReady as e:
            # The last write of the controller that makes it wakes us; the retry is for a signal that got lost.
            return await self._wait(scope, backend, "NetworkNotReady", format_chain(e), retry_s=1.0)
        except (UserError, UnitFailed, OSError) as e:
            message = format_chain(e)
            await self._wait(scope, backend, "MachineNotStarted", message)
            self._events.record(scope.vmi, "Warning", "FailedStart", message)
            return Failed(message)
        first = phase_of(scope.vmi) != "Running" and machine.phase == "running"
        report = Report(
            "Running" if first or phase_of(scope.vmi) == "Running" else "Scheduled",
            "GuestNotRunning",
            machine.message,
            machine,
            scope.pod,
            plan_interfaces(scope.vmi["spec"], leg),
            fidelity=_fidelity(backend),
        )
        await self._report_pod(scope, report)
        await self._report(scope, report)
        if first:
            self._events.record(scope.vmi, "Normal", "Started", "VirtualMachineInstance started.")
        if machine.phase != "running" or machine.first_boot is not None or machine.started_at is None:
            return Done()
        # Nothing tells us that the guest's first boot has ended. It does within seconds; one that hangs is looked at ever less often.
        age_s = (utc_now() - machine.started_at).total_seconds()
        return RequeueAfter(max(FIRST_BOOT_LOOK_S, age_s / 10))

    async def _wait(self, scope: Scope, backend: MachineBackend, reason: str, message: str, retry_s: float = 30.0) -> Result:
        machine = backend.state(scope.uid)
        phase = phase_of(scope.vmi)
        phase = "Running" if phase == "Running" else "Scheduled"
        report = Report(phase, reason, message, machine, scope.pod, fidelity=_fidelity(backend))
        await self._report(scope, report)
        return Waiting(reason, message, retry_s=retry_s)

    def _read_user_data(self, scope: Scope) -> bytes | None:
        found = find_user_data(scope.vmi)
        if found.secret is None:
            return found.data
        secret = self._caches.secrets.get(found.secret)
        if secret is not None:
            return decode_secret(secret)
        if phase_of(scope.vmi) == "Running":
            return None
        raise UserError(f"Secret {found.secret} with the user data does not exist", hint="create it with the key userdata")

    # Towards the end

    async def _evict(self, scope: Scope, pod: JsonObject, backend: MachineBackend) -> Result:
        """The Pod is being deleted: an eviction, `kubectl delete pod`, or a namespace that ends."""
        await self._say_stopping(scope)
        await self._stop(scope, backend)
        ran = phase_of(scope.vmi) == "Running"
        message = "the machine was stopped because its Pod is being deleted"
        report = Report("Succeeded" if ran else "Failed", "PodTerminating", message, fidelity=_fidelity(backend))
        self._events.record(scope.vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        await self._report(scope, report)
        await self._remove_pod(pod)
        return Done()

    async def _rest(self, scope: Scope) -> Result:
        """The machine has ended for good; its disk stays until the instance is deleted."""
        backend = self._find_backend(scope.uid)
        # Stopping wakes this key, so it must not be done again for nothing.
        if backend is not None:
            await backend.stop(scope.uid, scope.grace_s)
        if scope.pod is not None:
            if is_deleting(scope.pod):
                await self._remove_pod(scope.pod)
            elif scope.pod["spec"].get("nodeName") == self._host:
                await self._report_pod(scope, Report(phase_of(scope.vmi), ready_message="the machine has ended"))
        return Done()

    async def _delete(self, scope: Scope) -> Result:
        if not has_finalizer(scope.vmi, INSTANCE_FINALIZER):
            return Done()
        await self._say_stopping(scope)
        try:
            for backend in self._backends.values():
                await self._stop(scope, backend)
                await backend.remove(scope.uid)
        except (UnitFailed, DriverError, OSError) as e:
            message = f"the machine cannot be removed: {format_chain(e)}"
            await self._report(scope, Report(phase_of(scope.vmi) or "Pending", "RemovalFailed", message, pod=scope.pod))
            return Failed(message)
        if scope.pod is not None:
            await self._remove_pod(scope.pod)
        if phase_of(scope.vmi) == "Running":
            self._events.record(scope.vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        vmi = await self._client.find(INSTANCES, scope.key)
        if vmi is not None and vmi["metadata"]["uid"] == scope.uid:
            await remove_finalizer(self._client, INSTANCES, vmi, INSTANCE_FINALIZER)
        return Done()

    async def _stop(self, scope: Scope, backend: MachineBackend) -> None:
        await stop_within(lambda grace_s: backend.stop(scope.uid, grace_s), lambda: self._grace_s(scope))

    def _grace_s(self, scope: Scope) -> float:
        """What the guest is given now: nothing any more once the instance, or the Pod that it had, was removed by force."""
        now = self._caches.find_scope(scope.key)
        if now is None or now.uid != scope.uid or (scope.pod is not None and now.pod is None):
            return 0.0
        grace = now.pod["metadata"].get("deletionGracePeriodSeconds") if now.pod is not None else None
        return scope.grace_s if grace is None else min(scope.grace_s, float(grace))

    async def _say_stopping(self, scope: Scope) -> None:
        """Ready goes first, so that load balancers and clusters turn away before the guest is asked to power off."""
        backend = self._find_backend(scope.uid)
        if backend is None or phase_of(scope.vmi) != "Running":
            return
        report = Report(
            "Running",
            "PodTerminating",
            "the machine is being stopped",
            backend.state(scope.uid),
            scope.pod,
            stopping=True,
            fidelity=_fidelity(backend),
        )
        await self._report_pod(scope, report)
        await self._report(scope, report)

    async def _remove_pod(self, pod: JsonObject) -> None:
        await self._client.ensure_absent(PODS, Key.of(pod), uid=pod["metadata"]["uid"], grace_s=0)

    # Reports

    async def _report(self, scope: Scope, report: Report) -> bool:
        """Write the instance's status; returns whether anything changed."""
        vmi = self._caches.instances.get(scope.key) or scope.vmi
        if vmi["metadata"]["uid"] != scope.uid:
            return False
        try:
            stored = await write_status(self._client, INSTANCES, vmi, plan_status(vmi, report, utc_now()), subresource=False)
        except NotFound:
            return False  # gone since it was read, as it should be when its machine has just been removed
        return stored is not vmi

    async def _report_pod(self, scope: Scope, report: Report) -> None:
        pod = scope.pod
        if pod is None:
            return
        final = report.phase in FINAL_PHASES
        started = report.machine.started_at
        wanted = plan_pod_status(
            pod,
            phase=report.phase if final else ("Running" if report.phase == "Running" else "Pending"),
            address=report.interfaces[0]["ipAddress"] if report.interfaces else (pod.get("status") or {}).get("podIP"),
            started_at=format_time(started) if started is not None else None,
            ready=report.ready,
            message=report.ready_message,
            host=str(self._cloud.host_address.ip),
        )
        old = pod.get("status") or {}
        conditions = merge_conditions(old.get("conditions"), wanted.pop("conditions"))
        await write_status(self._client, PODS, pod, {**old, **wanted, "conditions": conditions})


def _scheduling(pod: JsonObject, backend: MachineBackend, pressure: str = "") -> Report:
    message = "the scheduler has not chosen a host yet"
    return Report("Scheduling", "PodNotReady", message, pod=pod, fidelity=_fidelity(backend), pressure=pressure)


def _fidelity(backend: MachineBackend) -> tuple[str, str]:
    """How real the machine is, or will be: known as soon as its backend is chosen."""
    return backend.fidelity, backend.fidelity_message


def _machine_spec(scope: Scope, leg: MachineLeg, version: str, user_data: bytes | None) -> MachineSpec:
    metadata, spec = scope.vmi["metadata"], scope.vmi["spec"]
    size = get_size(spec)
    name = spec.get("hostname") or metadata["name"]
    return MachineSpec(
        uid=scope.uid,
        name=name,
        namespace=metadata["namespace"],
        image=version,
        vcpus=size.vcpus,
        cpu_milli=find_cpu_limit(spec),
        memory_bytes=size.memory_bytes,
        leg=leg,
        user_data=user_data,
        # KubeVirt's cloud-init meta-data; the values are what templates in bootstrap data refer to.
        meta_data={"local_hostname": name, "instance_id": f"{metadata['name']}.{metadata['namespace']}"},
        stop_grace_s=scope.grace_s,
    )
