"""Where a machine is attached: from its interfaces, their IP objects, Subnets and Vpcs to legs, and from legs to its status. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import TYPE_CHECKING

from pilvi.api.resource import JsonObject
from pilvi.lib.hashing import short_hash
from pilvi.providers.attachments import Attachment
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineState
from pilvi.providers.names import subnet_bridge, vpc_netns

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["Link", "NoLeg", "find_failures", "plan_interfaces", "plan_leg", "plan_legs"]


_USUAL_MTU = 1500
CARD = "card "
"""What `MachineState.unchanged` calls an interface begins so."""


@dataclass(frozen=True)
class Link:
    """One interface of a machine with the objects that say where it leads; None while they do not exist."""

    attachment: Attachment
    ip: JsonObject | None
    subnet: JsonObject | None
    vpc: JsonObject | None


@dataclass(frozen=True)
class NoLeg:
    """What is awaited before the machine can be attached."""

    message: str


def plan_legs(cloud: Cloud, links: Iterable[Link], *, running: bool) -> tuple[MachineLeg, ...] | NoLeg:
    """The legs of a machine, or what is still missing.

    A machine that is `running` gets those that there are: one that comes later waits for its address, and the others go on. Only without
    the leg that is its way out it has none.
    """
    found = [(link.attachment, plan_leg(cloud, link)) for link in links if not link.attachment.is_absent]
    for attachment, leg in found:
        if isinstance(leg, NoLeg) and (not running or attachment.is_default):
            return leg
    return tuple(leg for _, leg in found if isinstance(leg, MachineLeg))


def plan_leg(cloud: Cloud, link: Link) -> MachineLeg | NoLeg:
    """The leg of one interface, or what is still missing."""
    attachment, ip, subnet, vpc = link.attachment, link.ip, link.subnet, link.vpc
    if ip is None:
        where = (
            "" if attachment.definition is None else f" in network {attachment.name} (NetworkAttachmentDefinition {attachment.definition})"
        )
        message = f"no address yet{where}: the IP object of the machine is not there; look at its events and at the Subnet's conditions"
        return NoLeg(message)
    spec = ip.get("spec") or {}
    if subnet is None:
        return NoLeg(f"Subnet {spec.get('subnet') or '?'} of the machine's address does not exist; create it")
    wanted = subnet.get("spec") or {}
    if vpc is None:
        return NoLeg(f"Vpc {wanted.get('vpc') or 'of the subnet'} of Subnet {subnet['metadata']['name']} does not exist; create it")
    try:
        cidr = IPv4Network(wanted["cidrBlock"])
        address = IPv4Interface(f"{spec['v4IpAddress']}/{cidr.prefixlen}")
        gateway = IPv4Address(wanted.get("gateway") or cidr.network_address + 1)
        mac = str(spec["macAddress"])
    except (AddressValueError, NetmaskValueError, KeyError, ValueError) as e:
        return NoLeg(f"Subnet {subnet['metadata']['name']} or IP {ip['metadata']['name']} holds no valid IPv4 addresses or no MAC: {e}")
    return MachineLeg(
        netns=vpc_netns(cloud, vpc["metadata"]["uid"]),
        bridge=subnet_bridge(subnet["metadata"]["uid"]),
        mac=mac,
        address=address,
        gateway=gateway,
        mtu=wanted.get("mtu") or _USUAL_MTU,
        name=attachment.name,
        provider=attachment.provider,
        place=attachment.place,
        is_default=attachment.is_default,
        is_up=attachment.interface.get("state") != "down",
    )


def plan_interfaces(legs: Iterable[MachineLeg], cards: tuple[str, ...] | None, before: Iterable[JsonObject] = ()) -> list[JsonObject]:
    """`status.interfaces` of a machine on these legs, the one of its way out first.

    `cards` are those that the guest has, None where that cannot change. One that it has not let go of yet stays as it was told `before`.
    """
    ordered = sorted((leg for leg in legs if cards is None or leg.name in cards), key=lambda leg: not leg.is_default)
    found = [_interface(leg, first=number == 0) for number, leg in enumerate(ordered)]
    known = {leg.name for leg in ordered}
    return [*found, *(entry for entry in before if entry.get("name") in (cards or ()) and entry.get("name") not in known)]


def find_failures(machine: MachineState) -> list[str]:
    """What could not be done with the machine's network cards while it runs, and is tried again."""
    failures = sorted(machine.unchanged.items())
    return [f"interface {subject.removeprefix(CARD)}: {message}" for subject, message in failures if subject.startswith(CARD)]


def _interface(leg: MachineLeg, *, first: bool) -> JsonObject:
    address = str(leg.address.ip)
    return {
        "name": leg.name,
        "ipAddress": address,
        "ipAddresses": [address],
        "mac": leg.mac,
        **({"interfaceName": "eth0"} if first else {}),
        # KubeVirt's names of links in the Pod; the first eight digits of its hash are all that there is of it here.
        "podInterfaceName": "eth0" if first else f"pod{short_hash(leg.name)}",
        "infoSource": "domain" if first else "domain, multus-status",
        "linkState": "up" if leg.is_up else "down",
        "queueCount": 1,
    }
