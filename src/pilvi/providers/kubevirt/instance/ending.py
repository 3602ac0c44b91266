"""Towards the end: eviction, a machine that has ended by itself, and deletion."""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.api.builtin import PODS
from pilvi.api.resource import Key
from pilvi.errors import DriverError, UnitFailed, format_chain
from pilvi.providers.kubevirt.instance.attachments import Attachments
from pilvi.providers.kubevirt.instance.backends import Backends, fidelity
from pilvi.providers.kubevirt.instance.grace import stop_within
from pilvi.providers.kubevirt.instance.memorydump import MemoryDumps
from pilvi.providers.kubevirt.instance.probes.prober import DEAD
from pilvi.providers.kubevirt.instance.reporter import Reporter
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import Report, phase_of
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.migration.state import active_pod
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualmachine.instance import INSTANCE_FINALIZER
from pilvi.providers.platform import Platform
from pilvi.runtime import Done, Failed, Result, has_finalizer, is_deleting, remove_finalizer

__all__ = ["Ending"]


class Ending:
    """What is done with an instance whose machine is to end or has ended. `hosts` are those that it acts for."""

    def __init__(
        self,
        platform: Platform,
        hosts: Hosts,
        caches: Caches,
        backends: Backends,
        reporter: Reporter,
        attachments: Attachments,
        dumps: MemoryDumps,
    ) -> None:
        self._client = platform.client
        self._events = platform.events
        self._hosts = hosts
        self._caches = caches
        self._backends = backends
        self._reporter = reporter
        self._attachments = attachments
        self._dumps = dumps

    async def evict(self, scope: Scope, pod: JsonObject, backend: MachineBackend) -> Result:
        """The Pod is being deleted: an eviction, `kubectl delete pod`, or a namespace that ends."""
        stored = await self._client.find(INSTANCES, scope.key)
        if stored is None or active_pod(stored) != pod["metadata"]["name"]:
            return Done()  # the machine has moved to another Pod, which the cache does not know yet
        await self._say_stopping(scope)
        await self._stop(scope)
        ran = phase_of(scope.vmi) == "Running"
        message = "the machine was stopped because its Pod is being deleted"
        report = Report("Succeeded" if ran else "Failed", "PodTerminating", message, fidelity=fidelity(backend))
        self._events.record(scope.vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        await self._reporter.report(scope, report)
        await self._remove_pod(pod)
        return Done()

    async def fail(self, scope: Scope, backend: MachineBackend, message: str) -> Result:
        """The liveness probe asks for an end, which its reason keeps until the machine has ended: the next engine then goes on with it."""
        await self._say_stopping(scope, DEAD, message)
        await self._stop(scope)
        self._events.record(scope.vmi, "Warning", "Unhealthy", f"The VirtualMachineInstance was ended: {message}")
        report = Report("Failed", DEAD, message, pod=scope.pod, fidelity=fidelity(backend))
        await self._reporter.report_pod(scope, report)
        await self._reporter.report(scope, report)
        return Done()

    async def rest(self, scope: Scope) -> Result:
        """The machine has ended for good; its disk stays until the instance is deleted."""
        backend = self._backends.find(scope.uid)
        # Stopping wakes this key, so it must not be done again for nothing.
        if backend is not None:
            await backend.stop(scope.uid, scope.grace_s)
        await self._dumps.discard(scope)
        await self._attachments.remove(scope)
        if scope.pod is not None:
            if is_deleting(scope.pod):
                await self._remove_pod(scope.pod)
            elif self._hosts.owns(scope.pod["spec"].get("nodeName")):
                await self._reporter.report_pod(scope, Report(phase_of(scope.vmi), ready_message="the machine has ended"))
        return Done()

    async def delete(self, scope: Scope) -> Result:
        """The instance is being deleted: end the machine, take away all that it had, then let the object go."""
        if not has_finalizer(scope.vmi, INSTANCE_FINALIZER):
            return Done()
        await self._say_stopping(scope)
        try:
            await self._stop(scope)
            await self._backends.remove(scope.uid)
        except (UnitFailed, DriverError, OSError) as e:
            message = f"the machine cannot be removed: {format_chain(e)}"
            await self._reporter.report(scope, Report(phase_of(scope.vmi) or "Pending", "RemovalFailed", message, pod=scope.pod))
            return Failed(message)
        await self._dumps.discard(scope)
        await self._attachments.remove(scope)
        if scope.pod is not None:
            await self._remove_pod(scope.pod)
        if phase_of(scope.vmi) == "Running":
            self._events.record(scope.vmi, "Normal", "Stopped", "The VirtualMachineInstance was shut down.")
        vmi = await self._client.find(INSTANCES, scope.key)
        if vmi is not None and vmi["metadata"]["uid"] == scope.uid:
            await remove_finalizer(self._client, INSTANCES, vmi, INSTANCE_FINALIZER)
        return Done()

    async def _stop(self, scope: Scope) -> None:
        await stop_within(lambda grace_s: self._backends.stop(scope.uid, grace_s), lambda: self._grace_s(scope))

    def _grace_s(self, scope: Scope) -> float:
        """What the guest is given now: nothing any more once the instance, or the Pod that it had, was removed by force."""
        now = self._caches.find_scope(scope.key)
        if now is None or now.uid != scope.uid or (scope.pod is not None and now.pod is None):
            return 0.0
        grace = now.pod["metadata"].get("deletionGracePeriodSeconds") if now.pod is not None else None
        return scope.grace_s if grace is None else min(scope.grace_s, float(grace))

    async def _say_stopping(self, scope: Scope, reason: str = "PodTerminating", message: str = "the machine is being stopped") -> None:
        """Ready goes first, so that load balancers and clusters turn away before the guest is asked to power off."""
        backend = self._backends.find(scope.uid)
        if backend is None or phase_of(scope.vmi) != "Running":
            return
        report = Report(
            "Running",
            reason,
            message,
            backend.state(scope.uid),
            scope.pod,
            stopping=True,
            fidelity=fidelity(backend),
        )
        await self._reporter.report_pod(scope, report)
        await self._reporter.report(scope, report)

    async def _remove_pod(self, pod: JsonObject) -> None:
        await self._client.ensure_absent(PODS, Key.of(pod), uid=pod["metadata"]["uid"], grace_s=0)
