"""How a sandbox is attached to its Subnet: a namespace of its own, and a cable into the Subnet's bridge. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.names import machine_netns, machine_port

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.network import NamespaceNetwork, Veth

__all__ = ["plan_network"]


def plan_network(cloud: Cloud, spec: MachineSpec) -> tuple[NamespaceNetwork, Veth]:
    """The machine's namespace and its leg: `eth0` inside, a port of the Subnet's bridge outside. Pure."""
    from pilvi.host.network import NamespaceNetwork, Route, Veth, VethEnd  # noqa: PLC0415 (half a second of import that a CLI must not pay)

    netns = machine_netns(cloud, spec.uid)
    leg = spec.leg
    veth = Veth(
        a=VethEnd(netns=leg.netns, name=machine_port(spec.uid, leg.provider), master=leg.bridge),
        b=VethEnd(netns=netns, name="eth0", mac=leg.mac, addresses=(leg.address,)),
        mtu=leg.mtu,
    )
    default = Route(prefix=IPv4Network("0.0.0.0/0"), via=leg.gateway, dev="eth0")
    # A node forwards between its pods and its leg.
    return NamespaceNetwork(netns=netns, routes=(default,), sysctls={"net.ipv4.ip_forward": "1"}), veth
