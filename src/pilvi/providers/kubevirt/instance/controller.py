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

from pilvi.api import JsonObject
from pilvi.api.resource import Key
from pilvi.errors import UserError, format_chain
from pilvi.images import Pulls
from pilvi.providers.kubevirt.instance.attachments import Attachments
from pilvi.providers.kubevirt.instance.attendants import Attendants
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.instance.credentials.credential import find_credentials
from pilvi.providers.kubevirt.instance.ending import Ending
from pilvi.providers.kubevirt.instance.memorydump import MemoryDumps
from pilvi.providers.kubevirt.instance.probes.probe import PROBES, read_probe
from pilvi.providers.kubevirt.instance.reporter import Reporter
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.starting import Starting
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, Report, phase_of
from pilvi.providers.kubevirt.instance.sweep import MachineSweep
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks
from pilvi.providers.kubevirt.instance.volumes.cloudinit import find_cloud_init
from pilvi.providers.kubevirt.instance.volumes.serviceaccount import find_service_account
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineState
from pilvi.providers.kubevirt.machines.choice import Refusal, choose_backend, find_boot_image
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualmachine.instance import INSTANCE_FINALIZER
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import find_hugepage_bytes, get_size
from pilvi.runtime import Done, Failed, Result, ensure_finalizer, is_deleting

__all__ = ["Instances"]


class Instances:
    """The reconciler of VirtualMachineInstance. `hosts` are the virtual hosts that it acts for."""

    def __init__(self, platform: Platform, hosts: Hosts, backends: Backends, sweep: MachineSweep, pulls: Pulls) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._events = platform.events
        self._caches = Caches(platform.informers)
        self._backends = backends
        self._sweep = sweep
        self._reporter = Reporter(platform, self._caches)
        self.attendants = Attendants(self._caches, platform.events)
        claims = ClaimDisks(platform.cloud, self._caches)
        attachments, dumps = Attachments(platform, hosts, claims), MemoryDumps(platform.informers, self._caches, claims)
        self._starting = Starting(platform, hosts, self._caches, self._reporter, pulls, self.attendants, claims, attachments, dumps)
        self._ending = Ending(platform, hosts, self._caches, backends, self._reporter, attachments, dumps)
        self.holders = claims.holders
        # For whoever moves a machine.
        self.caches, self.reporter, self.starting = self._caches, self._reporter, self._starting

    async def reconcile(self, key: Key) -> Result:
        """One pass for the instance `key`."""
        scope = self._caches.find_scope(key)
        if scope is None or is_deleting(scope.vmi) or phase_of(scope.vmi) in FINAL_PHASES:
            self.attendants.end(key)
        if scope is None:  # also for the key of no instance, by which the host's first Lease wakes
            await self._sweep.run()
            return Done()
        if is_deleting(scope.vmi):
            return await self._ending.delete(scope)
        if phase_of(scope.vmi) in FINAL_PHASES:
            return await self._ending.rest(scope)
        return await self._run(scope)

    def find_backend(self, uid: str) -> MachineBackend | None:
        """What runs the machine now, or None."""
        return self._backends.find(uid)

    async def _run(self, scope: Scope) -> Result:
        await ensure_finalizer(self._client, INSTANCES, scope.vmi, INSTANCE_FINALIZER)
        backend = self._choose(scope.vmi)
        if isinstance(backend, Refusal):
            return await self._refuse(scope, backend)
        if scope.pod is not None and is_deleting(scope.pod):
            self.attendants.end(scope.key)
            return await self._ending.evict(scope, scope.pod, backend)
        if (death := self.attendants.find_death(scope)) is not None:
            return await self._ending.fail(scope, backend, death)
        return await self._starting.start(scope, backend)

    def _choose(self, vmi: JsonObject) -> MachineBackend | Refusal:
        running = self._backends.find(vmi["metadata"]["uid"])
        choice = choose_backend(vmi, self._cloud.machines, running.name if running is not None else None)
        if isinstance(choice, Refusal):
            return choice
        if choice not in self._backends:
            image = find_boot_image(vmi["spec"])
            what = f"container disk {image}" if image else "a machine without a container disk"
            return Refusal("BackendMissing", f"{what} needs {choice}, which is not on this host; `pilvi doctor` says what to install")
        try:
            get_size(vmi["spec"])
            find_hugepage_bytes(vmi["spec"])
            find_cloud_init(vmi)
            find_service_account(vmi["spec"])
            find_credentials(vmi)
            for probe in PROBES:
                read_probe(vmi["spec"], probe)
        except UserError as e:
            return Refusal("InvalidSpec", format_chain(e))
        return self._backends[choice]

    async def _refuse(self, scope: Scope, refusal: Refusal) -> Result:
        """No machine can be made of this instance: say so, and leave nothing half-made."""
        phase, running = phase_of(scope.vmi), self._backends.find(scope.uid)
        report = Report("Pending", "PodNotExists", refusal.message, refusal=(refusal.reason, refusal.message))
        if phase not in ("", "Pending"):
            # It went further once, before a power cut or under another pilvi; as in KubeVirt no phase ever goes back.
            machine = running.state(scope.uid) if running is not None else MachineState("absent")
            report = dataclasses.replace(report, phase=phase, ready_reason="GuestNotRunning", machine=machine, pod=scope.pod)
        if await self._reporter.report(scope, report):
            self._events.record(scope.vmi, "Warning", refusal.reason, refusal.message)
        return Failed(f"{refusal.reason}: {refusal.message}", permanent=True)
