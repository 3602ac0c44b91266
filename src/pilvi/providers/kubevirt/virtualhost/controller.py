"""Keeps the Nodes that stand for the cloud's hosts: their labels, what machines may use, what they run short of, and their Leases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import LEASES, NODES
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.kinds import TENANT_CONTROL_PLANES
from pilvi.providers.kubevirt.virtualhost.capacity import allocatable, read_capacity, share
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts, is_failed
from pilvi.providers.kubevirt.virtualhost.node import RENEW_SECONDS, HostFacts, new_lease, new_node, plan_node_patch, plan_node_status
from pilvi.providers.kubevirt.virtualhost.pressure import PRESSURES, find_pressures, read_figures
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Done, RequeueAfter, Result

__all__ = ["VirtualHost"]

MANAGER = "pilvi-virtual-host"
# How often it is looked whether the last machine has left.
_LEAVE_SECONDS = 2.0


class VirtualHost:
    """The reconciler of the cloud's Nodes.

    `wake_sweep` is called once, after the first Lease: removals come only when the host is vouched for. It must not do them itself,
    since the next Lease does not wait for what cannot be removed. `empty` asks the machines of a host to leave it, and returns whether
    none is left there.
    """

    def __init__(
        self, platform: Platform, facts: HostFacts, hosts: Hosts, wake_sweep: Callable[[], None], empty: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._client = platform.client
        self._events = platform.events
        self._home = platform.cloud.home
        self._nodes = platform.informers.get(NODES)
        self._planes = platform.informers.get(TENANT_CONTROL_PLANES)
        self._facts = facts
        self._hosts = hosts
        self._wake_sweep: Callable[[], None] | None = wake_sweep
        self._empty = empty

    async def reconcile(self, key: Key) -> Result:
        """One pass; other Nodes are none of ours."""
        stays = key.name in self._hosts.wanted
        if not self._hosts.owns(key.name) or (self._nodes.get(key) is None and not stays):
            return Done()
        facts = replace(self._facts, name=key.name)
        node = await self._ensure_node(key, facts, leaving=not stays)
        failed = is_failed(node)
        if not failed:
            await self._client.apply(LEASES, new_lease(facts, node["metadata"]["uid"], utc_now()), manager=MANAGER)
        await self._report(node, facts, failed=failed)
        if self._wake_sweep is not None:
            self._wake_sweep()
            self._wake_sweep = None
        if stays or not await self._empty(key.name):
            return RequeueAfter(RENEW_SECONDS if stays else _LEAVE_SECONDS)
        await self._client.ensure_absent(NODES, key, uid=node["metadata"]["uid"])
        return Done()

    async def _ensure_node(self, key: Key, facts: HostFacts, *, leaving: bool) -> JsonObject:
        node = self._nodes.get(key)
        if node is None:
            return await self._client.create(NODES, new_node(facts))
        patch = plan_node_patch(facts, node, failed=is_failed(node), leaving=leaving)
        if not patch:
            return node
        patch.setdefault("metadata", {})["resourceVersion"] = node["metadata"]["resourceVersion"]
        return await self._client.patch(NODES, key, patch)

    async def _report(self, node: JsonObject, facts: HostFacts, *, failed: bool) -> None:
        capacity, figures = await asyncio.to_thread(lambda: (read_capacity(), read_figures(self._home)))
        count = len(self._hosts.wanted)
        left = share(allocatable(capacity, len(self._planes.list())), count)
        old = node.get("status") or {}
        before = {entry["type"] for entry in old.get("conditions") or [] if entry["status"] == "True"}
        pressures = find_pressures(figures, before)
        status = {**old, **plan_node_status(facts, share(capacity, count), left, pressures, old, utc_now(), failed=failed)}
        # A Node's conditions of others (a problem detector's) stay.
        ours = {entry["type"] for entry in status["conditions"]}
        status["conditions"] = [*status["conditions"], *(entry for entry in old.get("conditions") or [] if entry["type"] not in ours)]
        await write_status(self._client, NODES, node, status)
        for kind in pressures.keys() - before:
            self._events.record(node, "Warning", PRESSURES[kind][0], f"{pressures[kind]}; new machines wait")
