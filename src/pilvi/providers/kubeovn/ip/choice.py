"""Which Subnet, address and MAC a machine gets in a network. Pure: everything that is taken is an argument.

An answer is either what was asked for or a `Refusal`; a refusal never falls back to something else, because a machine with another
address than the one asked for is worse than one that waits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from pilvi.api import JsonObject
from pilvi.lib.allocate import find_free_address
from pilvi.providers.attachments import POD_NETWORK, Attachment
from pilvi.providers.kubeovn.names import DEFAULT_SUBNET, requested_address, requested_mac, requested_subnet
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan, find_default_subnet

__all__ = ["Request", "VpcUse", "choose_address", "choose_mac", "choose_subnet", "parse_mac", "read_request"]

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UNSPECIFIED = 0
_MULTICAST_BIT = 1


@dataclass(frozen=True)
class Request:
    """What a machine asks for in one network, by annotations and the MAC of its interface; None where it asks for nothing.

    `other_mac` is what the interface says, also where an annotation goes before it: the two have to agree. `provider` is the network's.
    """

    subnet: str | None
    address: str | None
    mac: str | None
    other_mac: str | None = None
    provider: str = POD_NETWORK


@dataclass(frozen=True)
class VpcUse:
    """Who may use a Vpc (no namespaces: all), and the Subnet that machines of exactly these namespaces get when they name none."""

    namespaces: frozenset[str] = frozenset()
    default_subnet: str | None = None


def read_request(machine: Mapping[str, JsonObject], attachment: Attachment) -> Request:
    """The request of a VirtualMachineInstance, or of the template in a VirtualMachine, for one of its networks."""
    annotations = (machine.get("metadata") or {}).get("annotations") or {}
    provider, of_field = attachment.provider, attachment.interface.get("macAddress")
    return Request(
        subnet=annotations.get(requested_subnet(provider)) or None,
        address=annotations.get(requested_address(provider)) or None,
        mac=_plain(annotations.get(requested_mac(provider)) or of_field or "") or None,
        other_mac=_plain(of_field or "") or None,
        provider=provider,
    )


def parse_mac(text: str) -> str | None:
    """The address of one network card, in lower case with colons; None for anything else."""
    mac = _plain(text)
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & _MULTICAST_BIT or int(mac.replace(":", ""), 16) == _UNSPECIFIED:
        return None
    return mac


def _plain(mac: str) -> str:
    """KubeVirt takes hyphens as well."""
    return mac.lower().replace("-", ":")


def choose_subnet(
    request: Request, namespace: str, plans: Mapping[str, SubnetPlan | Refusal], vpcs: Mapping[str, VpcUse]
) -> SubnetPlan | Refusal:
    """The Subnet of a machine in a network: the one it names, else the one that is for this network.

    In the pod network that is the one bound to the machine's namespace, else its Vpc's default one, else the cloud's; in others the first
    by name whose provider it is. Kube-OVN takes one of the pod network where there is none; a machine that waits is better than one in
    another network. `vpcs` holds every Vpc that takes machines, by name.
    """
    annotation = requested_subnet(request.provider)
    if request.provider == POD_NETWORK:
        name = request.subnet or _find_default(namespace, plans, vpcs)
        missing = f"no Subnet for namespace {namespace}: name one with annotation {annotation}, or create Subnet {DEFAULT_SUBNET}"
    else:
        name = request.subnet or _find_provided(request.provider, plans)
        missing = f"no Subnet has spec.provider {request.provider}: create one, or name one with annotation {annotation}"
    if name is None:
        return Refusal("SubnetNotFound", missing)
    plan = plans.get(name)
    if plan is None:
        return Refusal("SubnetNotFound", f"there is no Subnet {name}; create it, or name another with annotation {annotation}")
    if isinstance(plan, Refusal):
        return Refusal("SubnetNotReady", f"Subnet {name} is not served: {plan.message}")
    if plan.namespaces and namespace not in plan.namespaces:
        return Refusal("NamespaceNotAllowed", f"Subnet {plan.name} is for other namespaces; add {namespace} to its spec.namespaces")
    use = vpcs.get(plan.vpc)
    if use is None:
        return Refusal("VpcNotFound", f"Subnet {plan.name}: there is no Vpc {plan.vpc}; create it")
    if use.namespaces and namespace not in use.namespaces:
        return Refusal("NamespaceNotAllowed", f"Vpc {plan.vpc} is for other namespaces; add {namespace} to its spec.namespaces")
    return plan


def _find_default(namespace: str, plans: Mapping[str, SubnetPlan | Refusal], vpcs: Mapping[str, VpcUse]) -> str | None:
    valid = [plan for plan in plans.values() if isinstance(plan, SubnetPlan) and plan.provider == POD_NETWORK]
    bound = sorted(plan.name for plan in valid if namespace in plan.namespaces)
    own = [use.default_subnet for _, use in sorted(vpcs.items()) if namespace in use.namespaces and use.default_subnet]
    default = find_default_subnet(valid)
    return next(iter([*bound, *own, *([default.name] if default is not None else [])]), None)


def _find_provided(provider: str, plans: Mapping[str, SubnetPlan | Refusal]) -> str | None:
    return min((plan.name for plan in plans.values() if isinstance(plan, SubnetPlan) and plan.provider == provider), default=None)


def choose_address(request: Request, plan: SubnetPlan, used: Collection[IPv4Address]) -> IPv4Address | Refusal:
    """The address asked for, else the lowest that is free.

    As in Kube-OVN `excludeIps` only keeps addresses from being chosen here; who asks for one of them gets it. `used` holds every
    address of the Vpc.
    """
    if request.address is None:
        free = find_free_address(plan.cidr, used, plan.excludes)
        if free is None:
            return Refusal(
                "NoAvailableAddress",
                f"Subnet {plan.name} has no free address in {plan.cidr}: delete machines or shorten its spec.excludeIps",
            )
        return free
    what = f"annotation {requested_address(request.provider)}: {request.address}"
    try:
        address = IPv4Address(request.address)
    except ValueError:
        return Refusal("InvalidAddress", f"{what} is not an IPv4 address; write one of Subnet {plan.name}, {plan.cidr}")
    if address not in plan.cidr or address in (plan.cidr.network_address, plan.cidr.broadcast_address):
        return Refusal("InvalidAddress", f"{what} is not a host address of Subnet {plan.name}, {plan.cidr}; ask for one that is")
    if address == plan.gateway:
        return Refusal("AddressConflict", f"{what} is the gateway of Subnet {plan.name}; ask for another")
    if address in used:
        return Refusal("AddressConflict", f"{what} is in use in Vpc {plan.vpc}; ask for another, or delete the machine that has it")
    return address


def choose_mac(request: Request, owner_uid: str, used: Iterable[str]) -> str | Refusal:
    """The MAC asked for, else one made from the owner's UID: the same for the same owner, locally administered, unique in the Vpc.

    It differs between the networks of a machine.
    """
    taken = set(used)
    if request.mac is None:
        seed = owner_uid if request.provider == POD_NETWORK else f"{owner_uid}/{request.provider}"
        return next(mac for attempt in range(len(taken) + 1) if (mac := _make_mac(seed, attempt)) not in taken)
    what = f"MAC {request.mac} (annotation {requested_mac(request.provider)}, or macAddress of the interface)"
    if request.other_mac not in (None, request.mac):
        return Refusal("InvalidAddress", f"{what}: annotation and interface, which says {request.other_mac}, differ; leave one of them out")
    wanted = parse_mac(request.mac)
    if wanted is None:
        return Refusal("InvalidAddress", f"{what} is not a unicast MAC; write one such as 02:00:00:00:00:01")
    if wanted in taken:
        return Refusal("AddressConflict", f"{what} is in use in this Vpc; ask for another")
    return wanted


def _make_mac(seed: str, attempt: int) -> str:
    digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()
    # 02: locally administered, unicast.
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))
