"""Writes what a pass found out to the instance and to its virt-launcher Pod."""

from __future__ import annotations

import dataclasses

from pilvi.api import JsonObject
from pilvi.api.builtin import PODS
from pilvi.errors import NotFound
from pilvi.lib.clock import format_time, utc_now
from pilvi.providers.kubevirt.instance.datavolumes import plan_data_volumes
from pilvi.providers.kubevirt.instance.pod import plan_pod_status
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES, Report, plan_status
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.migration.obstacle import Obstacle, find_obstacle
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import merge_conditions

__all__ = ["Reporter"]


class Reporter:
    """The one writer of both statuses."""

    def __init__(self, platform: Platform, caches: Caches) -> None:
        self._hosts = Hosts(platform.cloud, platform.informers)
        self._cloud = platform.cloud
        self._client = platform.client
        self._caches = caches

    async def report(self, scope: Scope, report: Report) -> bool:
        """Write the instance's status; returns whether anything changed."""
        vmi = self._caches.instances.get(scope.key) or scope.vmi
        if vmi["metadata"]["uid"] != scope.uid:
            return False
        report = dataclasses.replace(report, obstacle=self._find_obstacle(vmi, report))
        try:
            status = plan_status(vmi, report, utc_now(), plan_data_volumes(vmi, self._caches.data_volumes.get))
            stored = await write_status(self._client, INSTANCES, vmi, status, subresource=False)
        except NotFound:
            return False  # gone since it was read, as it should be when its machine has just been removed
        return stored is not vmi

    def _find_obstacle(self, vmi: JsonObject, report: Report) -> Obstacle | None:
        sandbox = report.fidelity is not None and report.fidelity[0] == "Sandbox"
        return find_obstacle(vmi, self._caches.claims.get, len(self._hosts.list()), sandbox=sandbox)

    async def report_pod(self, scope: Scope, report: Report) -> None:
        """Write the Pod's status as its kubelet would; nothing without a Pod."""
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
            reason=report.ready_reason,
            host=str(self._cloud.host_address.ip),
        )
        old = pod.get("status") or {}
        conditions = merge_conditions(old.get("conditions"), wanted.pop("conditions"))
        await write_status(self._client, PODS, pod, {**old, **wanted, "conditions": conditions})
