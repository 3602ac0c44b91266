"""What a Subnet object asks for, checked: the one place where its fields are read.

Three reconcilers (Vpc, Subnet, IP) need the same answer at the same time. So it is computed from the objects each time and never
handed on; `plan_subnets` is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.lib.allocate import AddressRange, parse_range
from pilvi.providers.attachments import POD_NETWORK
from pilvi.providers.kubeovn.names import DEFAULT_SUBNET, DEFAULT_VPC
from pilvi.providers.kubeovn.subnet.dhcp import DhcpOptions, parse_dhcp_options
from pilvi.providers.names import subnet_bridge

__all__ = ["Refusal", "SubnetPlan", "find_default_subnet", "find_stranger", "plan_beside", "plan_subnet", "plan_subnets"]

_NARROWEST = 30
_USUAL_MTU = 1500
_SMALLEST_MTU, _LARGEST_MTU = 576, 65535  # what every host of IPv4 takes, and the most that a bridge carries


@dataclass(frozen=True)
class SubnetPlan:
    """One valid Subnet. `excludes` holds what is never given to a machine, the gateway included; `provider` is the network it is for."""

    name: str
    uid: str
    vpc: str
    cidr: IPv4Network
    gateway: IPv4Address
    excludes: tuple[AddressRange, ...]
    namespaces: frozenset[str]
    private: bool
    allow_subnets: tuple[IPv4Network, ...]
    is_default: bool
    mtu: int
    dhcp: DhcpOptions
    provider: str = POD_NETWORK

    @property
    def bridge(self) -> str:
        """The bridge in the router's namespace."""
        return subnet_bridge(self.uid)


@dataclass(frozen=True)
class Refusal:
    """Why a Subnet is not served: `reason` for the condition, `message` with the field and the next step."""

    reason: str
    message: str


def plan_subnets(subnets: Iterable[JsonObject], reserved: Mapping[str, IPv4Network]) -> dict[str, SubnetPlan | Refusal]:
    """Every Subnet by name, as a plan or the reason why it is refused.

    `reserved` names the networks that no Subnet may overlap (the cloud's own). Of two overlapping Subnets in one Vpc the older
    one is served, so a new object never takes the network away from running machines.
    """
    result: dict[str, SubnetPlan | Refusal] = {}
    served: dict[str, list[SubnetPlan]] = {}
    for subnet in sorted(subnets, key=_age):
        siblings = served.setdefault((subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC, [])
        plan = result[subnet["metadata"]["name"]] = plan_beside(subnet, siblings, reserved)
        if isinstance(plan, SubnetPlan):
            siblings.append(plan)
    return result


def plan_beside(subnet: JsonObject, served: Iterable[SubnetPlan], reserved: Mapping[str, IPv4Network]) -> SubnetPlan | Refusal:
    """The plan of one Subnet beside those of its Vpc that are served already."""
    plan = plan_subnet(subnet)
    if isinstance(plan, Refusal):
        return plan
    return _find_conflict(plan, served, reserved) or plan


def plan_subnet(subnet: JsonObject) -> SubnetPlan | Refusal:
    """The plan of one Subnet by its own fields alone."""
    spec = subnet.get("spec") or {}
    metadata = subnet["metadata"]
    text = spec.get("cidrBlock") or ""
    if (spec.get("protocol") or "IPv4") != "IPv4" or "," in text or ":" in text:
        return Refusal(
            "ProtocolNotSupported", f"spec.protocol: only IPv4 is served, and spec.cidrBlock {text!r} has to be one IPv4 network"
        )
    try:
        cidr = IPv4Network(text, strict=False)
    except ValueError:
        return Refusal("InvalidCIDR", f"spec.cidrBlock {text!r} is not an IPv4 network; write for example 10.0.1.0/24")
    if IPv4Interface(text).ip != cidr.network_address:
        # Kube-OVN rewrites the field; here nobody writes into a user's spec, and everybody has to read the same network.
        return Refusal("InvalidCIDR", f"spec.cidrBlock {text} is an address in a network; write the network itself, {cidr}")
    if cidr.prefixlen > _NARROWEST:
        return Refusal(
            "InvalidCIDR", f"spec.cidrBlock {cidr} has no room for a gateway and a machine; use a /{_NARROWEST} or larger network"
        )
    if cidr.is_multicast or cidr.is_loopback or cidr.is_unspecified or cidr.network_address.packed[0] in (0, 127):
        return Refusal("InvalidCIDR", f"spec.cidrBlock {cidr} is not a network that machines can use; write for example 10.0.1.0/24")
    try:
        gateway = IPv4Address(spec.get("gateway") or cidr[1])
    except ValueError:
        return Refusal("InvalidGateway", f"spec.gateway {spec['gateway']!r} is not an IPv4 address; leave it out to get {cidr[1]}")
    if gateway not in cidr or gateway in (cidr.network_address, cidr.broadcast_address):
        return Refusal(
            "InvalidGateway", f"spec.gateway {gateway} is not a host address of spec.cidrBlock {cidr}; leave it out to get {cidr[1]}"
        )
    try:
        excludes = [parse_range(item) for item in spec.get("excludeIps") or ()]
    except UserError as e:
        return Refusal("InvalidExcludeIps", f"spec.excludeIps: {e}; {e.hint}")
    for low, high in excludes:
        if low not in cidr or high not in cidr:
            return Refusal("InvalidExcludeIps", f"spec.excludeIps: {low}..{high} is not inside spec.cidrBlock {cidr}; remove it")
    try:
        allow = tuple(IPv4Network(item) for item in spec.get("allowSubnets") or ())
    except ValueError as e:
        return Refusal("InvalidAllowSubnets", f"spec.allowSubnets: {e}; write IPv4 networks")
    mtu = spec.get("mtu") or _USUAL_MTU
    if not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        return Refusal(
            "InvalidMTU", f"spec.mtu {mtu}: packets are {_SMALLEST_MTU} to {_LARGEST_MTU} bytes; leave it out to get {_USUAL_MTU}"
        )
    try:
        dhcp = parse_dhcp_options(spec.get("dhcpV4Options") or "")
    except UserError as e:
        return Refusal("InvalidDHCPOptions", f"spec.dhcpV4Options: {e}; {e.hint}")
    return SubnetPlan(
        name=metadata["name"],
        uid=metadata["uid"],
        vpc=spec.get("vpc") or DEFAULT_VPC,
        cidr=cidr,
        gateway=gateway,
        excludes=((gateway, gateway), *excludes),
        namespaces=frozenset(spec.get("namespaces") or ()),
        private=bool(spec.get("private")),
        allow_subnets=allow,
        is_default=bool(spec.get("default")),
        mtu=mtu,
        dhcp=dhcp,
        provider=spec.get("provider") or POD_NETWORK,
    )


def find_default_subnet(plans: Iterable[SubnetPlan]) -> SubnetPlan | None:
    """The Subnet for machines that name none: the one that says `default`, else `ovn-default`. Two that say so: the first by name."""
    ordered = sorted((plan for plan in plans if plan.provider == POD_NETWORK), key=lambda plan: plan.name)
    marked = next((plan for plan in ordered if plan.is_default), None)
    return marked or next((plan for plan in ordered if plan.name == DEFAULT_SUBNET), None)


def find_stranger(plan: SubnetPlan, used: Collection[IPv4Address]) -> Refusal | None:
    """What is wrong when machines of the Subnet have addresses (`used`) that its range leaves out: it was changed after they came."""
    strangers = sorted(address for address in used if address not in plan.cidr)
    if not strangers:
        return None
    return Refusal(
        "CIDRInUse", f"spec.cidrBlock {plan.cidr} leaves out {strangers[0]}, which a machine has; change it back, or delete those machines"
    )


def _find_conflict(plan: SubnetPlan, siblings: Iterable[SubnetPlan], reserved: Mapping[str, IPv4Network]) -> Refusal | None:
    for name, network in reserved.items():
        if plan.cidr.overlaps(network):
            return Refusal("CIDRConflict", f"spec.cidrBlock {plan.cidr} overlaps {name} {network}; choose another network")
    for sibling in siblings:
        if plan.cidr.overlaps(sibling.cidr):
            return Refusal(
                "CIDRConflict",
                f"spec.cidrBlock {plan.cidr} overlaps {sibling.cidr} of Subnet {sibling.name} in the same Vpc {plan.vpc}; "
                "choose another network or another Vpc",
            )
    return None


def _age(subnet: JsonObject) -> tuple[str, str]:
    metadata = subnet["metadata"]
    return metadata.get("creationTimestamp") or "", metadata["name"]
