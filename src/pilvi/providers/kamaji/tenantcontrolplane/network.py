"""The network namespace of a control plane: one leg on the cloud bridge, one into the router of its VPC.

Deciding is pure (`plan_network`), `apply_network` makes it so and may be called repeatedly. The leg into the VPC is made when the
VPC's router is there; a control plane answers without it, and only machines and pods have to wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec

from pilvi.api import JsonObject
from pilvi.api.kubeovn import DEFAULT_VPC
from pilvi.controlplane import ControlPlane, control_plane_filter
from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.network import Address, NamespaceNetwork, Route, Veth, VethEnd, ensure_netns, ensure_network, ensure_veth
from pilvi.lib.together import together
from pilvi.providers.announce import Announcer
from pilvi.providers.legs import control_plane_leg
from pilvi.tenant import VPC_ANNOTATION

__all__ = ["PlaneNetwork", "apply_network", "find_subnets", "plan_network", "vpc_name"]

# A control plane keeps its address as long as it lives, and no other has its namespace after it.
_announcer = Announcer()

EVERYWHERE = IPv4Network("0.0.0.0/0")


class PlaneNetwork(msgspec.Struct, frozen=True):
    """What the namespace of a control plane has to look like; `leg` is None while the VPC has no router. `filter` is an nft table."""

    netns: str
    uplink: Veth
    leg: Veth | None
    inside: NamespaceNetwork
    filter: JsonObject


def vpc_name(tenant: JsonObject) -> str:
    """The Vpc in which the workers of this TenantControlPlane live."""
    return (tenant["metadata"].get("annotations") or {}).get(VPC_ANNOTATION) or DEFAULT_VPC


def find_subnets(subnets: Iterable[JsonObject], vpc: str) -> dict[str, IPv4Network]:
    """The IPv4 networks of the Subnets of `vpc`, by `Subnet NAME`. A Subnet whose network is not valid has none."""
    found = {}
    for subnet in subnets:
        spec = subnet.get("spec") or {}
        if (spec.get("vpc") or DEFAULT_VPC) == vpc:
            try:
                found[f"Subnet {subnet['metadata']['name']}"] = IPv4Network(spec.get("cidrBlock") or "")
            except ValueError:
                continue
    return found


def plan_network(cloud: Cloud, plane: ControlPlane, subnets: Iterable[IPv4Network], router: str | None) -> PlaneNetwork:
    """The links, addresses, routes and filter of `plane`. `router` is the network namespace of its VPC, None while there is none.

    Machines and pods are reached over the leg, everything else over the cloud bridge. Replies over the leg carry the cloud
    address, which is what nodes know their API server by.
    """
    host_end = cloud.link_name(plane.netns)
    uplink = Veth(
        a=VethEnd(netns=None, name=host_end, master=cloud.bridge),
        b=VethEnd(netns=plane.netns, name="eth0", mac=_mac(plane.address)),
    )
    addresses = [Address("eth0", IPv4Interface((plane.address, cloud.range.prefixlen)))]
    routes = [Route(prefix=EVERYWHERE, via=cloud.host_address.ip, dev="eth0")]
    leg = None
    if router is not None:
        ends = control_plane_leg(cloud, plane.address)
        leg = Veth(
            a=VethEnd(netns=plane.netns, name=ends.inner_link),
            b=VethEnd(netns=router, name=ends.outer_link, addresses=(IPv4Interface((ends.outer, ends.prefix_length)),)),
        )
        addresses.append(Address(ends.inner_link, IPv4Interface((ends.inner, ends.prefix_length))))
        prefixes = {*subnets, *((plane.pod_cidr,) if plane.pod_cidr else ())}
        routes += [Route(prefix=prefix, via=ends.outer, dev=ends.inner_link, src=plane.address) for prefix in sorted(prefixes)]
    inside = NamespaceNetwork(netns=plane.netns, addresses=tuple(addresses), routes=tuple(routes))
    return PlaneNetwork(plane.netns, uplink, leg, inside, control_plane_filter(plane, cloud.nft_table))


async def apply_network(wanted: PlaneNetwork, tables: nft.Tables) -> None:
    """Make it so. Raises OSError (or what `host.network` raises) when the kernel refuses; what was made until then stays and is reused.

    The filter may come after the links: nothing listens before all of this is done.
    """
    if await ensure_netns(wanted.netns):
        tables.forget(wanted.netns)
    await together(_apply_links(wanted), tables.ensure(wanted.netns, wanted.filter))


async def _apply_links(wanted: PlaneNetwork) -> None:
    await ensure_veth(wanted.uplink)
    if wanted.leg is not None:
        await ensure_veth(wanted.leg)
    await ensure_network(wanted.inside)
    if wanted.uplink.b.mac is not None:
        # What had the address before, a load balancer perhaps, is still in the neighbours' tables.
        own = [entry.address.ip for entry in wanted.inside.addresses if entry.link == wanted.uplink.b.name]
        await _announcer.announce(wanted.netns, wanted.uplink.b.name, wanted.uplink.b.mac, own)


def _mac(address: IPv4Address) -> str:
    """A locally administered address that goes with the cloud address, so that a link made anew is the same neighbour."""
    return ":".join(f"{octet:02x}" for octet in (0x02, 0x71, *address.packed))
