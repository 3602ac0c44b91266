"""Reconciles Subnet: its status, and its deletion, which waits for the machines in it. The bridge itself is the Vpc's reconciler's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.providers.kubeovn.names import FINALIZER
from pilvi.providers.kubeovn.objects import Objects, subnet_of_ip, vpc_of_subnet
from pilvi.providers.kubeovn.subnet.plan import Refusal
from pilvi.providers.kubeovn.subnet.status import SubnetScope, subnet_status
from pilvi.providers.kubeovn.sweep import OwnerSweep
from pilvi.runtime import Controller, Done, Result, Waiting, Watch, desire_changed, ensure_finalizer, is_deleting, remove_finalizer

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["SubnetReconciler"]

MANAGER = "pilvi-subnet"


class SubnetReconciler:
    """One reconcile for each Subnet."""

    def __init__(self, platform: Platform, objects: Objects, sweep: OwnerSweep) -> None:
        self._client = platform.client
        self._events = platform.events
        self._objects = objects
        self._sweep = sweep

    def controller(self) -> Controller:
        """The controller that runs it."""
        return Controller(
            "subnet",
            Subnet.RESOURCE,
            self.reconcile,
            watches=[
                Watch(IP.RESOURCE, lambda ip: [Key("", subnet_of_ip(ip))]),
                Watch(Vpc.RESOURCE, self._subnets_of_vpc),
                # A conflict ends when the other Subnet goes.
                Watch(Subnet.RESOURCE, lambda subnet: self._siblings(vpc_of_subnet(subnet)), desire_changed),
            ],
        )

    async def reconcile(self, key: Key) -> Result:
        """Bring one Subnet's status up to date."""
        subnet = self._objects.subnets.get(key)
        if subnet is None:
            return Done()
        used = self._objects.addresses_in(key.name)
        if is_deleting(subnet):
            if used:
                await self._write(subnet, used)
                message = f"Subnet {key.name} is not deleted yet: machines have addresses in it; delete them first"
                self._events.record(subnet, "Normal", "InUse", message)
                return Waiting("InUse", message)
            await remove_finalizer(self._client, Subnet.RESOURCE, subnet, FINALIZER)
            return Done()
        if await self._sweep.delete_orphan(Subnet.RESOURCE, subnet):
            return Done()
        subnet = await ensure_finalizer(self._client, Subnet.RESOURCE, subnet, FINALIZER)
        await self._write(subnet, used)
        return Done()

    async def _write(self, subnet: JsonObject, used: list[IPv4Address]) -> None:
        plan = self._objects.plans().get(subnet["metadata"]["name"])
        if plan is None:
            return  # gone from the cache since; its deletion wakes the key
        vpc = self._objects.vpcs.get(Key("", vpc_of_subnet(subnet)))
        status = subnet_status(SubnetScope(subnet, plan, used, vpc))
        before = subnet.get("status") or {}
        if any(before.get(field) != value for field, value in status.items()):
            await self._client.apply_status(Subnet.RESOURCE, {**subnet, "status": status}, manager=MANAGER)
            if isinstance(plan, Refusal) and before.get("conditions") != status["conditions"]:
                self._events.record(subnet, "Warning", plan.reason, plan.message)

    def _subnets_of_vpc(self, vpc: JsonObject) -> Iterable[Key]:
        return self._siblings(vpc["metadata"]["name"])

    def _siblings(self, vpc: str) -> list[Key]:
        return [Key.of(subnet) for subnet in self._objects.subnets.list() if vpc_of_subnet(subnet) == vpc]
