"""Runs what acts inside each tenant cluster: one supervised group of tasks for every control plane that answers.

A group that fails is started again alone. A tenant that is deleted, or whose API server is dead, disturbs nobody: its informers
keep trying quietly, and its group ends with its TenantControlPlane.
"""

from __future__ import annotations

import asyncio
from functools import partial
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import DEFAULT_VPC
from pilvi.runtime import Informers, Supervisor, run_together
from pilvi.tenant.clients import TENANT_CONTROL_PLANES, TenantClients, is_ready
from pilvi.tenant.nodes import Tenant, follow_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["VPC_ANNOTATION", "Tenants"]

VPC_ANNOTATION = "pilvi.dev/vpc"
DEFAULT_POD_CIDR = "10.244.0.0/16"


class Tenants:
    """The groups of all tenant clusters. `run` starts and stops them as control planes come and go."""

    def __init__(self, informers: Informers, clients: TenantClients, supervisor: Supervisor) -> None:
        self._informers = informers
        self._clients = clients
        self._supervisor = supervisor
        self._tenants = informers.get(TENANT_CONTROL_PLANES)
        self._running: dict[str, tuple[str, Tenant]] = {}  # UID -> name of the group, what it works for

    async def run(self) -> None:
        """Follow the TenantControlPlanes until cancelled; then end all groups."""
        changed = asyncio.Event()
        stop = self._tenants.subscribe(lambda _old, _new: changed.set())
        try:
            await self._tenants.synced.wait()
            await run_together(self._clients.run(), self._follow(changed))
        finally:
            stop()
            for name, _ in [*self._running.values()]:
                await self._supervisor.stop_group(name)
            self._running.clear()

    async def _follow(self, changed: asyncio.Event) -> None:
        while True:
            changed.clear()
            present = {obj["metadata"]["uid"]: obj for obj in self._tenants.list() if not obj["metadata"].get("deletionTimestamp")}
            wanted = {uid: _find_tenant(obj) for uid, obj in present.items()}
            for uid, (name, tenant) in [*self._running.items()]:
                if uid not in present or wanted[uid] not in (tenant, None):
                    await self._supervisor.stop_group(name)
                    del self._running[uid]
            for uid, obj in present.items():
                # Once started a group stays: a control plane that is away for a moment is waited for by its informers.
                found = wanted[uid]
                if uid not in self._running and found is not None and is_ready(obj):
                    name = f"tenant {Key.of(obj)} {uid[:8]}"
                    self._running[uid] = (name, found)
                    self._supervisor.start_group(name, self._main(obj, found))
            await changed.wait()

    def _main(self, obj: JsonObject, tenant: Tenant) -> Callable[[], Coroutine[None, None, None]]:
        return partial(self._run_one, obj, tenant)

    async def _run_one(self, obj: JsonObject, tenant: Tenant) -> None:
        await follow_nodes(tenant, self._clients.open(obj), self._informers)


def _find_tenant(obj: JsonObject) -> Tenant | None:
    """What there is to work for; None while its pod network is no network, which its controller tells in a condition."""
    profile = (obj.get("spec") or {}).get("networkProfile") or {}
    vpc = (obj["metadata"].get("annotations") or {}).get(VPC_ANNOTATION) or DEFAULT_VPC
    try:
        return Tenant(Key.of(obj), vpc, IPv4Network(profile.get("podCidr") or DEFAULT_POD_CIDR))
    except ValueError:
        return None
