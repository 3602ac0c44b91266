"""What the reconcilers of this group read: the informers of its kinds and of those it depends on, and the questions they share."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, TypeAlias

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.providers.attachments import ip_key, split_ip_name
from pilvi.providers.kubeovn.ip.choice import VpcUse
from pilvi.providers.kubeovn.names import DEFAULT_VPC
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan, plan_subnets
from pilvi.providers.legs import LEGS
from pilvi.providers.published import SERVICE_OF_SLICE, Published, publish, vpcs_of_subnets
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.runtime import Informers

__all__ = [
    "Objects",
    "Plans",
    "address_of",
    "ip_key",
    "machine_key",
    "neighbours",
    "provider_of",
    "service_of_slice",
    "subnet_of_ip",
    "vpc_of_subnet",
]


Plans: TypeAlias = dict[str, SubnetPlan | Refusal]
"""Every Subnet by name."""


def machine_key(ip: JsonObject) -> Key:
    """The machine of an IP object."""
    return split_ip_name(ip["metadata"]["name"])[0]


def provider_of(ip: JsonObject) -> str:
    """The network that an IP object gives the machine an address in."""
    return split_ip_name(ip["metadata"]["name"])[1]


def subnet_of_ip(ip: JsonObject) -> str:
    """The Subnet that an IP object is from; empty when somebody wrote an IP object without one."""
    return (ip.get("spec") or {}).get("subnet") or ""


def address_of(ip: JsonObject) -> IPv4Address | None:
    """The IPv4 address of an IP object; None when it holds none."""
    try:
        return IPv4Address((ip.get("spec") or {}).get("v4IpAddress") or "")
    except ValueError:
        return None


def vpc_of_subnet(subnet: JsonObject) -> str:
    """The Vpc that a Subnet belongs to."""
    return (subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC


def neighbours(ips: Iterable[JsonObject], plans: Plans, vpc: str) -> list[JsonObject]:
    """Of the IP objects those of one Vpc, and those of unknown Subnets, which may be of it."""
    others = {name for name, plan in plans.items() if isinstance(plan, SubnetPlan) and plan.vpc != vpc}
    return [ip for ip in ips if subnet_of_ip(ip) not in others]


def service_of_slice(slice_: JsonObject) -> Key:
    """The Service of an EndpointSlice; its name is empty when the slice belongs to none."""
    metadata = slice_["metadata"]
    return Key(metadata.get("namespace") or "", (metadata.get("labels") or {}).get(SERVICE_OF_SLICE) or "")


class Objects:
    """The caches, with the indices that the reconcilers look things up by."""

    def __init__(self, informers: Informers, cloud: Cloud) -> None:
        self.vpcs = informers.get(Vpc.RESOURCE)
        self.subnets = informers.get(Subnet.RESOURCE)
        self.ips = informers.get(IP.RESOURCE)
        self.machines = informers.get(VirtualMachineInstance.RESOURCE)
        self.definitions = informers.get(NetworkAttachmentDefinition.RESOURCE)
        self.virtual_machines = informers.get(VirtualMachine.RESOURCE)
        self.control_planes = informers.get(TenantControlPlane.RESOURCE)
        self.services = informers.get(SERVICES)
        self.slices = informers.get(ENDPOINT_SLICES)
        self.ips.add_index("subnet", lambda ip: [subnet_of_ip(ip)])
        self.ips.add_index("machine", lambda ip: [machine_key(ip)])
        self.ips.add_index("namespace", lambda ip: [machine_key(ip).namespace])
        self.slices.add_index("service", lambda slice_: [service_of_slice(slice_)])
        self.reserved: dict[str, IPv4Network] = {
            **cloud.networks,
            "the link-local network": LEGS,
        }

    def plans(self) -> Plans:
        """Every Subnet by name, checked against the others."""
        return plan_subnets(self.subnets.list(), self.reserved)

    def usable(self, plans: Plans) -> Plans:
        """The plans for new machines: those of Subnets that are being deleted are refusals."""
        leaving = {subnet["metadata"]["name"] for subnet in self.subnets.list() if is_deleting(subnet)}
        return {name: Refusal("Deleting", "it is being deleted") if name in leaving else plan for name, plan in plans.items()}

    def vpc_uses(self) -> dict[str, VpcUse]:
        """Every Vpc that takes machines, with the namespaces it is for."""
        found = {}
        for vpc in self.vpcs.list():
            if not is_deleting(vpc):
                spec = vpc.get("spec") or {}
                found[vpc["metadata"]["name"]] = VpcUse(frozenset(spec.get("namespaces") or ()), spec.get("defaultSubnet") or None)
        return found

    def addresses_in(self, subnet: str) -> list[IPv4Address]:
        """The addresses that IP objects hold in a Subnet."""
        return [address for ip in self.ips.by_index("subnet", subnet) if (address := address_of(ip)) is not None]

    def published(self) -> Iterable[Published]:
        """Every Service whose address leads to machines, or should."""
        vpcs = vpcs_of_subnets(self.subnets.list())
        for service in self.services.list():
            found = self.publish(service, vpcs)
            if found is not None:
                yield found

    def publish(self, service: JsonObject, vpcs: dict[str, str]) -> Published | None:
        """One Service as the routers see it."""
        key = Key.of(service)
        return publish(service, self.slices.by_index("service", key), self.ips.by_index("namespace", key.namespace), vpcs)
