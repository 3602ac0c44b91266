"""Reconciles the IP object of each VirtualMachineInstance: made once, kept over restarts, removed with its owner.

The IP objects are the only record of what is taken. One object is made at a time, on a fresh list, so that no two machines of a Vpc
ever get one address; `kubevirt/` starts a machine only when its IP object is there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.kubeovn.ip.choice import Request, choose_address, choose_mac, choose_subnet, read_request
from pilvi.providers.kubeovn.names import (
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    LABEL_OWNER_NAMESPACE,
    LABEL_OWNER_UID,
    LABEL_SUBNET,
)
from pilvi.providers.kubeovn.objects import Objects, address_of, ip_key, machine_key, neighbours
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan
from pilvi.runtime import Controller, Done, Result, Waiting, Watch, controller_of, desire_changed, is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["IPReconciler"]


class IPReconciler:
    """One reconcile for each machine; the key is that of its VirtualMachineInstance, which need not exist (any more)."""

    def __init__(self, platform: Platform, objects: Objects) -> None:
        self._client = platform.client
        self._events = platform.events
        self._objects = objects
        self._lock = asyncio.Lock()

    def controller(self) -> Controller:
        """The controller that runs it."""
        return Controller(
            "ip",
            VirtualMachineInstance.RESOURCE,
            self.reconcile,
            watches=[
                Watch(VirtualMachine.RESOURCE, lambda machine: [Key.of(machine)], desire_changed),
                # An address that became free, or a Subnet that became usable, is what a machine without one waits for.
                Watch(IP.RESOURCE, lambda ip: [machine_key(ip), *self._waiting()]),
                Watch(Subnet.RESOURCE, lambda _: self._waiting(), desire_changed),
                Watch(Vpc.RESOURCE, lambda _: self._waiting(), desire_changed),
            ],
            predicate=_matters,
        )

    async def reconcile(self, key: Key) -> Result:
        """Have the IP object of a machine that is there, and none of one that is gone for good."""
        machine = self._objects.machines.get(key)
        ip = self._objects.ips.get(ip_key(key))
        if machine is None or (is_deleting(machine) and ip is None):
            return await self._release(key, ip)
        owner = _owner_of(machine)
        if ip is not None and (ip["metadata"].get("labels") or {}).get(LABEL_OWNER_UID) != owner["uid"]:
            # The namesake that had it is gone: names of machines are unique, and this is another one.
            await self._client.ensure_absent(IP.RESOURCE, Key.of(ip), uid=ip["metadata"]["uid"])
            ip = None
        if ip is None:
            refusal = await self._allocate(machine, owner)
            if refusal is not None:
                self._events.record(machine, "Warning", "AcquireAddressFailed", refusal.message)
                return Waiting(refusal.reason, refusal.message)
            return Done()
        node = (machine.get("status") or {}).get("nodeName")
        if node and (ip.get("spec") or {}).get("nodeName") != node:
            await self._client.patch(IP.RESOURCE, Key.of(ip), {"metadata": {"uid": ip["metadata"]["uid"]}, "spec": {"nodeName": node}})
        return Done()

    async def _release(self, key: Key, ip: JsonObject | None) -> Result:
        """Without a running machine an address is kept for its VirtualMachine, as long as that still wants it."""
        if ip is None:
            return Done()
        # The cache may not have seen a young VirtualMachine yet, and an address that is given up does not come back.
        virtual_machine = self._objects.virtual_machines.get(key) or await self._client.find(VirtualMachine.RESOURCE, key)
        uid = (ip["metadata"].get("labels") or {}).get(LABEL_OWNER_UID)
        if virtual_machine is not None and virtual_machine["metadata"]["uid"] == uid and _still_wants(virtual_machine, ip):
            return Done()
        await self._client.ensure_absent(IP.RESOURCE, Key.of(ip), uid=ip["metadata"]["uid"])
        return Done()

    async def _allocate(self, machine: JsonObject, owner: dict[str, str]) -> Refusal | None:
        """Record an address and a MAC for the machine; returns why that cannot be done."""
        key = Key.of(machine)
        request = read_request(machine)
        plans = self._objects.plans()
        subnet = choose_subnet(request, key.namespace, self._objects.usable(plans), self._objects.vpc_uses())
        if isinstance(subnet, Refusal):
            return subnet
        async with self._lock:
            others = neighbours(await self._client.list(IP.RESOURCE), plans, subnet.vpc)
            address = choose_address(request, subnet, {found for ip in others if (found := address_of(ip)) is not None})
            if isinstance(address, Refusal):
                return address
            mac = choose_mac(request, owner["uid"], {(ip.get("spec") or {}).get("macAddress") or "" for ip in others})
            if isinstance(mac, Refusal):
                return mac
            # AlreadyExists: somebody wrote an object of that name; the next run reads it.
            await self._client.create(IP.RESOURCE, _new_ip(key, owner, subnet, str(address), mac))
        self._events.record(machine, "Normal", "AcquireAddress", f"got {address} and {mac} in Subnet {subnet.name}")
        return None

    def _waiting(self) -> list[Key]:
        """Machines that have no IP object yet."""
        keys = (Key.of(machine) for machine in self._objects.machines.list())
        return [key for key in keys if self._objects.ips.get(ip_key(key)) is None]


def _matters(old: JsonObject, new: JsonObject) -> bool:
    return desire_changed(old, new) or (old.get("status") or {}).get("nodeName") != (new.get("status") or {}).get("nodeName")


def _owner_of(machine: JsonObject) -> dict[str, str]:
    """Whose life the address shares: the VirtualMachine, or the instance itself when nobody made it."""
    reference = controller_of(machine)
    if reference is not None and reference["kind"] == VirtualMachine.RESOURCE.kind:
        return {"kind": reference["kind"], "name": reference["name"], "uid": reference["uid"]}
    return {"kind": VirtualMachineInstance.RESOURCE.kind, "name": machine["metadata"]["name"], "uid": machine["metadata"]["uid"]}


def _still_wants(virtual_machine: JsonObject, ip: JsonObject) -> bool:
    """Whether the template of a stopped machine still asks for what it has; another Subnet or address takes effect with the next start."""
    template: dict[str, Any] = (virtual_machine.get("spec") or {}).get("template") or {}
    request: Request = read_request(template)
    spec = ip.get("spec") or {}
    return (
        request.subnet in (None, spec.get("subnet"))
        and request.address in (None, spec.get("v4IpAddress"))
        and request.mac in (None, spec.get("macAddress"))
    )


def _new_ip(machine: Key, owner: dict[str, str], subnet: SubnetPlan, address: str, mac: str) -> JsonObject:
    labels = {
        LABEL_SUBNET: subnet.name,
        LABEL_OWNER_KIND: owner["kind"],
        LABEL_OWNER_NAMESPACE: machine.namespace,
        LABEL_OWNER_NAME: owner["name"],
        LABEL_OWNER_UID: owner["uid"],
    }
    # Kube-OVN's own schema asks for every field.
    spec = {
        "podName": machine.name,
        "namespace": machine.namespace,
        "podType": VirtualMachine.RESOURCE.kind,
        "subnet": subnet.name,
        "ipAddress": address,
        "v4IpAddress": address,
        "v6IpAddress": "",
        "macAddress": mac,
        "nodeName": "",
        "containerID": "",
        "attachIps": [],
        "attachMacs": [],
        "attachSubnets": [],
    }
    return IP.RESOURCE.new(ip_key(machine), metadata={"labels": labels}, spec=spec)
