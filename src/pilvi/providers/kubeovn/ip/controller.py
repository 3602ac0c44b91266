"""Reconciles the IP objects of each VirtualMachineInstance, one for each of its networks: made once, kept over restarts, removed with
their owner, or when the interface has been unplugged.

The IP objects are the only record of what is taken. One object is made at a time, on a fresh list, so that no two machines of a Vpc
ever get one address; `kubevirt/` starts a machine only when its IP object is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pilvi.api import JsonObject, Key
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.attachments import Attachment, find_attachments, ip_key
from pilvi.providers.kubeovn.definition import check_definition
from pilvi.providers.kubeovn.ip.choice import choose_address, choose_mac, choose_subnet, read_request
from pilvi.providers.kubeovn.names import (
    LABEL_OWNER_KIND,
    LABEL_OWNER_NAME,
    LABEL_OWNER_NAMESPACE,
    LABEL_OWNER_UID,
    LABEL_SUBNET,
)
from pilvi.providers.kubeovn.objects import Objects, address_of, machine_key, neighbours, provider_of
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
                Watch(NetworkAttachmentDefinition.RESOURCE, lambda _: self._waiting(), desire_changed),
                Watch(Vpc.RESOURCE, lambda _: self._waiting(), desire_changed),
            ],
            predicate=_matters,
        )

    async def reconcile(self, key: Key) -> Result:
        """Have the IP objects of a machine that is there, and none of one that is gone for good."""
        machine = self._objects.machines.get(key)
        ips = {Key.of(ip): ip for ip in self._objects.ips.by_index("machine", key)}
        if machine is None or (is_deleting(machine) and not ips):
            return await self._release(key, ips.values())
        owner = _owner_of(machine)
        wanted = {ip_key(key, attachment.provider): attachment for attachment in _wanted(machine)}
        for name, ip in ips.items():
            if name not in wanted and _owner_uid(ip) == owner["uid"]:
                await self._remove(ip)
        refusals = [await self._ensure(machine, owner, attachment, ips.get(name)) for name, attachment in wanted.items()]
        refusal = next((refusal for refusal in refusals if refusal is not None), None)
        return Done() if refusal is None else Waiting(refusal.reason, refusal.message)

    async def _ensure(self, machine: JsonObject, owner: dict[str, str], attachment: Attachment, ip: JsonObject | None) -> Refusal | None:
        """Have the IP object of one interface; returns why that cannot be."""
        if ip is not None and _owner_uid(ip) != owner["uid"]:
            # The namesake that had it is gone: names of machines are unique, and this is another one.
            await self._remove(ip)
            ip = None
        if ip is None:
            refusal = await self._allocate(machine, owner, attachment)
            if refusal is not None:
                self._events.record(machine, "Warning", "AcquireAddressFailed", refusal.message)
            return refusal
        node = (machine.get("status") or {}).get("nodeName")
        if node and (ip.get("spec") or {}).get("nodeName") != node:
            await self._client.patch(IP.RESOURCE, Key.of(ip), {"metadata": {"uid": ip["metadata"]["uid"]}, "spec": {"nodeName": node}})
        return None

    async def _release(self, key: Key, ips: Iterable[JsonObject]) -> Result:
        """Without a running machine addresses are kept for its VirtualMachine, as long as that still wants them."""
        ips = list(ips)
        if not ips:
            return Done()
        # The cache may not have seen a young VirtualMachine yet, and an address that is given up does not come back.
        virtual_machine = self._objects.virtual_machines.get(key) or await self._client.find(VirtualMachine.RESOURCE, key)
        for ip in ips:
            if virtual_machine is None or virtual_machine["metadata"]["uid"] != _owner_uid(ip) or not _still_wants(virtual_machine, ip):
                await self._remove(ip)
        return Done()

    async def _remove(self, ip: JsonObject) -> None:
        await self._client.ensure_absent(IP.RESOURCE, Key.of(ip), uid=ip["metadata"]["uid"])

    async def _allocate(self, machine: JsonObject, owner: dict[str, str], attachment: Attachment) -> Refusal | None:
        """Record an address and a MAC for one interface of the machine; returns why that cannot be done."""
        key = Key.of(machine)
        if attachment.definition is not None:
            refusal = check_definition(attachment, self._objects.definitions.get(attachment.definition))
            if refusal is not None:
                return refusal
        request = read_request(machine, attachment)
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
            await self._client.create(IP.RESOURCE, _new_ip(key, owner, subnet, str(address), mac, attachment.provider))
        self._events.record(machine, "Normal", "AcquireAddress", f"got {address} and {mac} in Subnet {subnet.name}")
        return None

    def _waiting(self) -> list[Key]:
        """Machines that lack an IP object."""
        return [
            key
            for machine in self._objects.machines.list()
            if (key := Key.of(machine))
            and any(self._objects.ips.get(ip_key(key, attachment.provider)) is None for attachment in _wanted(machine))
        ]


def _matters(old: JsonObject, new: JsonObject) -> bool:
    # An address is free when its card has been unplugged.
    return desire_changed(old, new) or any(
        (old.get("status") or {}).get(field) != (new.get("status") or {}).get(field) for field in ("nodeName", "interfaces")
    )


def _wanted(machine: JsonObject) -> list[Attachment]:
    """The interfaces of an instance that have or need an address: those that it is to have, and those that it still has."""
    plugged = {interface.get("name") for interface in (machine.get("status") or {}).get("interfaces") or ()}
    attachments = find_attachments(machine.get("spec") or {}, machine["metadata"]["namespace"])
    return [attachment for attachment in attachments if not attachment.is_absent or attachment.name in plugged]


def _owner_uid(ip: JsonObject) -> str | None:
    return (ip["metadata"].get("labels") or {}).get(LABEL_OWNER_UID)


def _owner_of(machine: JsonObject) -> dict[str, str]:
    """Whose life the address shares: the VirtualMachine, or the instance itself when nobody made it."""
    reference = controller_of(machine)
    if reference is not None and reference["kind"] == VirtualMachine.RESOURCE.kind:
        return {"kind": reference["kind"], "name": reference["name"], "uid": reference["uid"]}
    return {"kind": VirtualMachineInstance.RESOURCE.kind, "name": machine["metadata"]["name"], "uid": machine["metadata"]["uid"]}


def _still_wants(virtual_machine: JsonObject, ip: JsonObject) -> bool:
    """Whether the template of a stopped machine still asks for what it has; another Subnet or address takes effect with the next start."""
    template: dict[str, Any] = (virtual_machine.get("spec") or {}).get("template") or {}
    attachments = find_attachments(template.get("spec") or {}, virtual_machine["metadata"]["namespace"])
    attachment = next((found for found in attachments if found.provider == provider_of(ip) and not found.is_absent), None)
    if attachment is None:
        return False
    request = read_request(template, attachment)
    spec = ip.get("spec") or {}
    return (
        request.subnet in (None, spec.get("subnet"))
        and request.address in (None, spec.get("v4IpAddress"))
        and request.mac in (None, spec.get("macAddress"))
    )


def _new_ip(machine: Key, owner: dict[str, str], subnet: SubnetPlan, address: str, mac: str, provider: str) -> JsonObject:
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
    return IP.RESOURCE.new(ip_key(machine, provider), metadata={"labels": labels}, spec=spec)
