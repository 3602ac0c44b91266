"""Keeps the Node that stands for the host: its labels, what machines may use of it, what it runs short of, and its Lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import LEASES, NODES
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.kinds import TENANT_CONTROL_PLANES
from pilvi.providers.kubevirt.virtualhost.capacity import allocatable, read_capacity
from pilvi.providers.kubevirt.virtualhost.node import RENEW_SECONDS, HostFacts, new_lease, new_node, plan_node_patch, plan_node_status
from pilvi.providers.kubevirt.virtualhost.pressure import PRESSURES, find_pressures, read_figures
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Done, RequeueAfter, Result

__all__ = ["VirtualHost"]

MANAGER = "pilvi-virtual-host"


class VirtualHost:
    """The reconciler of the one Node.

    `wake_sweep` is called once, after the first Lease: removals come only when the host is vouched for. It must not do them itself,
    since the next Lease does not wait for what cannot be removed.
    """

    def __init__(self, platform: Platform, facts: HostFacts, wake_sweep: Callable[[], None]) -> None:
        self._client = platform.client
        self._events = platform.events
        self._home = platform.cloud.home
        self._nodes = platform.informers.get(NODES)
        self._planes = platform.informers.get(TENANT_CONTROL_PLANES)
        self._facts = facts
        self._wake_sweep: Callable[[], None] | None = wake_sweep

    async def reconcile(self, key: Key) -> Result:
        """One pass; other Nodes are none of ours."""
        if key.name != self._facts.name:
            return Done()
        node = await self._ensure_node(key)
        await self._client.apply(LEASES, new_lease(self._facts, node["metadata"]["uid"], utc_now()), manager=MANAGER)
        await self._report(node)
        if self._wake_sweep is not None:
            self._wake_sweep()
            self._wake_sweep = None
        return RequeueAfter(RENEW_SECONDS)

    async def _ensure_node(self, key: Key) -> JsonObject:
        node = self._nodes.get(key)
        if node is None:
            return await self._client.create(NODES, new_node(self._facts))
        patch = plan_node_patch(self._facts, node)
        if not patch:
            return node
        patch.setdefault("metadata", {})["resourceVersion"] = node["metadata"]["resourceVersion"]
        return await self._client.patch(NODES, key, patch)

    async def _report(self, node: JsonObject) -> None:
        capacity, figures = await asyncio.to_thread(lambda: (read_capacity(), read_figures(self._home)))
        left = allocatable(capacity, len(self._planes.list()))
        old = node.get("status") or {}
        before = {entry["type"] for entry in old.get("conditions") or [] if entry["status"] == "True"}
        pressures = find_pressures(figures, before)
        status = {**old, **plan_node_status(self._facts, capacity, left, pressures, old, utc_now())}
        # A Node's conditions of others (a problem detector's) stay.
        ours = {entry["type"] for entry in status["conditions"]}
        status["conditions"] = [*status["conditions"], *(entry for entry in old.get("conditions") or [] if entry["type"] not in ours)]
        await write_status(self._client, NODES, node, status)
        for kind in pressures.keys() - before:
            self._events.record(node, "Warning", PRESSURES[kind][0], f"{pressures[kind]}; new machines wait")
