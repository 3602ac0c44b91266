"""Where a machine is attached: from its IP object, the Subnet and the Vpc to one leg. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import TYPE_CHECKING

from pilvi.api.resource import JsonObject, Key
from pilvi.providers.kubevirt.machines.backend import MachineLeg
from pilvi.providers.names import subnet_bridge, vpc_netns

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["NoLeg", "interface_name", "ip_key", "plan_interfaces", "plan_leg"]


_USUAL_MTU = 1500


@dataclass(frozen=True)
class NoLeg:
    """What is awaited before the machine can be attached."""

    message: str


def ip_key(vmi_key: Key) -> Key:
    """The IP object of a machine: `<name>.<namespace>`."""
    return Key("", f"{vmi_key.name}.{vmi_key.namespace}")


def plan_leg(cloud: Cloud, ip: JsonObject | None, subnet: JsonObject | None, vpc: JsonObject | None) -> MachineLeg | NoLeg:
    """The leg of the machine whose address is `ip`, or what is still missing. The objects are None while they do not exist."""
    if ip is None:
        return NoLeg("no address yet: the IP object of the machine is not there; look at the Subnet's conditions")
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
    )


def interface_name(vmi_spec: JsonObject) -> str:
    """What the instance calls the interface that has the address: that of the pod network, else the first."""
    pod = next((network["name"] for network in vmi_spec.get("networks") or [] if network.get("pod") is not None), None)
    interfaces = ((vmi_spec.get("domain") or {}).get("devices") or {}).get("interfaces") or []
    return str(pod or (interfaces[0]["name"] if interfaces else "default"))


def plan_interfaces(vmi_spec: JsonObject, leg: MachineLeg) -> list[JsonObject]:
    """`status.interfaces` of a machine on this leg."""
    address = str(leg.address.ip)
    return [
        {
            "name": interface_name(vmi_spec),
            "ipAddress": address,
            "ipAddresses": [address],
            "mac": leg.mac,
            "interfaceName": "eth0",
            "podInterfaceName": "eth0",
            "infoSource": "domain",
            "linkState": "up",
            "queueCount": 1,
        }
    ]
