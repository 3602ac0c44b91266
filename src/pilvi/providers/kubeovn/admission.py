"""Checks of networks before they are stored: ranges that overlap, addresses that are taken, networks that nobody serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.admission import Check, Objection
from pilvi.providers.attachments import Attachment, find_attachments, ip_key
from pilvi.providers.kubeovn.definition import check_definition, find_fault, find_unused
from pilvi.providers.kubeovn.ip.choice import Request, choose_address, choose_mac, choose_subnet, read_request
from pilvi.providers.kubeovn.names import LABEL_OWNER_UID
from pilvi.providers.kubeovn.objects import Objects, Plans, address_of, machine_key, neighbours, vpc_of_subnet
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan, find_stranger, plan_beside, plan_subnets
from pilvi.providers.kubeovn.subnet.status import vpc_missing
from pilvi.providers.kubeovn.vpc.router import Problem, find_trespass, vpc_of_control_plane
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks"]

# A machine waits for these to change.
_AWAITED = ("DefinitionNotFound", "SubnetNotFound", "SubnetNotReady", "VpcNotFound", "NoAvailableAddress")


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    found = _Checks(Objects(platform.informers, platform.cloud))
    return [
        Check(Vpc.RESOURCE, found.of_vpc),
        Check(Subnet.RESOURCE, found.of_subnet),
        Check(NetworkAttachmentDefinition.RESOURCE, found.of_definition),
        Check(VirtualMachine.RESOURCE, found.of_virtual_machine),
        Check(VirtualMachineInstance.RESOURCE, found.of_instance),
        Check(TenantControlPlane.RESOURCE, found.of_control_plane),
    ]


class _Checks:
    """What is being deleted is in nobody's way."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def of_vpc(self, vpc: JsonObject) -> Iterator[Objection]:
        """Against the control planes that are in it: shut out, they would reach their nodes no more."""
        for control_plane in self._objects.control_planes.list():
            if vpc_of_control_plane(control_plane) == vpc["metadata"]["name"] and not is_deleting(control_plane):
                yield from _told(find_trespass(vpc, control_plane))

    def of_subnet(self, subnet: JsonObject) -> Iterator[Objection]:
        """Against the other Subnets, the cloud's own ranges, and the machines that are in it."""
        name, reserved = subnet["metadata"]["name"], self._objects.reserved
        others = [other for other in self._objects.subnets.list() if other["metadata"]["name"] != name and not is_deleting(other)]
        served = [plan for plan in plan_subnets(others, reserved).values() if isinstance(plan, SubnetPlan)]
        plan = plan_beside(subnet, [other for other in served if other.vpc == vpc_of_subnet(subnet)], reserved)
        if isinstance(plan, Refusal):
            yield from _told(plan)
            return
        yield from _told(find_stranger(plan, self._addresses(self._objects.ips.by_index("subnet", name))))
        if self._objects.vpcs.get(Key("", plan.vpc)) is None:
            yield Objection(vpc_missing(plan).message, refuses=False)

    def of_definition(self, definition: JsonObject) -> Iterator[Objection]:
        """By itself: only Kube-OVN's own plug-in is served."""
        fault = find_fault(definition)
        yield from _told(fault)
        for name in find_unused(definition) if fault is None else ():
            yield Objection(f"spec.config: {name} has no effect", refuses=False)

    def of_virtual_machine(self, machine: JsonObject) -> Iterator[Objection]:
        """What its template asks for."""
        return self._of_machine(Key.of(machine), (machine.get("spec") or {}).get("template") or {})

    def of_instance(self, instance: JsonObject) -> Iterator[Objection]:
        """What it asks for itself."""
        return self._of_machine(Key.of(instance), instance)

    def of_control_plane(self, control_plane: JsonObject) -> Iterator[Objection]:
        """Against the Vpc that it wants into."""
        vpc = self._objects.vpcs.get(Key("", vpc_of_control_plane(control_plane)))
        if vpc is not None:
            yield from _told(find_trespass(vpc, control_plane))

    def _of_machine(self, key: Key, described: JsonObject) -> Iterator[Objection]:
        for attachment in find_attachments(described.get("spec") or {}, key.namespace):
            if not attachment.is_absent:
                yield from self._of_attachment(key, attachment, read_request(described, attachment))

    def _of_attachment(self, key: Key, attachment: Attachment, request: Request) -> Iterator[Objection]:
        if attachment.definition is not None:
            refusal = check_definition(attachment, self._objects.definitions.get(attachment.definition))
            if refusal is not None:
                yield Objection(refusal.message, refuses=refusal.reason not in _AWAITED)
        plans = self._objects.plans()
        subnet = choose_subnet(request, key.namespace, self._objects.usable(plans), self._objects.vpc_uses())
        for refusal in [subnet] if isinstance(subnet, Refusal) else self._find_taken(key, request, subnet, plans):
            yield Objection(refusal.message, refuses=refusal.reason not in _AWAITED)

    def _find_taken(self, key: Key, request: Request, subnet: SubnetPlan, plans: Plans) -> list[Refusal]:
        """What of the request somebody else has; what the machine has already is its own."""
        others = neighbours((ip for ip in self._objects.ips.list() if Key.of(ip) != ip_key(key, request.provider)), plans, subnet.vpc)
        choices = (
            choose_address(request, subnet, self._addresses(others)),
            choose_mac(request, "", {(ip.get("spec") or {}).get("macAddress") or "" for ip in others if self._is_held(ip)}),
        )
        return [choice for choice in choices if isinstance(choice, Refusal)]

    def _addresses(self, ips: Iterable[JsonObject]) -> set[IPv4Address]:
        return {address for ip in ips if self._is_held(ip) and (address := address_of(ip)) is not None}

    def _is_held(self, ip: JsonObject) -> bool:
        """Whether the machine of an IP object is there to stay. The object goes a moment after its machine."""
        if LABEL_OWNER_UID not in (ip["metadata"].get("labels") or {}):
            return not is_deleting(ip)  # made by hand
        key = machine_key(ip)
        machine = self._objects.virtual_machines.get(key) or self._objects.machines.get(key)
        return machine is not None and not is_deleting(machine)


def _told(problem: Refusal | Problem | None) -> Iterator[Objection]:
    if problem is not None:
        yield Objection(problem.message)
