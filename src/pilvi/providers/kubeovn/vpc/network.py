"""Links, addresses, routes and settings of one VPC's router, from its `Router` value. Pure.

uplink      veth to the cloud's bridge: the transit address, and a /32 for each published address, so that the bridge's
            neighbours find them by ARP
sn<hash>    one bridge for each Subnet, with the gateway's address; machines are its ports (made by `kubevirt/`)
cp<hash>    leg to a control plane (made by `kamaji/`)
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.host.network import Address, Bridge, NamespaceNetwork, Route, Veth, VethEnd
from pilvi.providers.kubeovn.vpc.router import UPLINK, Router
from pilvi.providers.names import vpc_netns

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["router_network", "router_uplink"]

_EVERYWHERE = IPv4Network("0.0.0.0/0")


def router_uplink(router: Router, cloud: Cloud) -> Veth:
    """The cable between the cloud's bridge and the router."""
    return Veth(
        a=VethEnd(netns=None, name=cloud.link_name(router.uid), master=cloud.bridge),
        b=VethEnd(netns=vpc_netns(cloud, router.uid), name=UPLINK, mac=_mac(router.uid), addresses=(router.transit,)),
    )


def router_network(router: Router, cloud: Cloud, links: Collection[str]) -> NamespaceNetwork:
    """All else in the router's namespace. `links` are those that are there: routes over a leg that is not made yet are left out."""
    return NamespaceNetwork(
        netns=vpc_netns(cloud, router.uid),
        # A fixed MAC: a bridge without one takes over that of its ports, and guests would lose their gateway when machines come and go.
        bridges=tuple(Bridge(subnet.bridge, mac=_mac(subnet.uid), mtu=subnet.mtu) for subnet in router.subnets),
        addresses=(
            *(Address(subnet.bridge, IPv4Interface((subnet.gateway, subnet.cidr.prefixlen))) for subnet in router.subnets),
            *(Address(UPLINK, IPv4Interface((address, 32))) for address in dict.fromkeys(item.address for item in router.published)),
        ),
        routes=(*_own_routes(router, cloud, links), *_others_routes(router)),
        sysctls=_sysctls(router),
    )


def _own_routes(router: Router, cloud: Cloud, links: Collection[str]) -> list[Route]:
    routes = [
        Route(prefix=cloud.range, dev=UPLINK, src=router.transit.ip),
        *(Route(prefix=IPv4Network(leg.address), via=leg.via, dev=leg.link) for leg in router.legs if leg.link in links),
    ]
    # Who routes everything to a machine of the VPC (a gateway, a firewall) wants it there.
    if not any(route.destination == _EVERYWHERE for route in router.static_routes):
        routes.append(Route(prefix=_EVERYWHERE, via=cloud.transit_gateway.ip, dev=UPLINK, src=router.transit.ip))
    return routes


def _others_routes(router: Router) -> list[Route]:
    bridges = {subnet.cidr: subnet.bridge for subnet in router.subnets}
    return [
        Route(prefix=route.destination, via=route.via, dev=next(bridge for cidr, bridge in bridges.items() if route.via in cidr))
        for route in (*router.pod_routes, *router.static_routes)
    ]


def _sysctls(router: Router) -> dict[str, str]:
    settings = {
        "net.ipv4.ip_forward": "1",
        # Resolver and DHCP have no privileges; this namespace has no other users.
        "net.ipv4.ip_unprivileged_port_start": "53",
        # The larger of `all` and the link's own value holds.
        "net.ipv4.conf.all.rp_filter": "0",
        f"net.ipv4.conf.{UPLINK}.rp_filter": "0",
        "net.ipv4.conf.all.send_redirects": "0",
    }
    for subnet in router.subnets:
        # A machine may only use addresses that are routed to its subnet.
        settings[f"net.ipv4.conf.{subnet.bridge}.rp_filter"] = "1"
        # Two nodes of a cluster reach each other's pods through the router by the link that they came from.
        settings[f"net.ipv4.conf.{subnet.bridge}.send_redirects"] = "0"
    if Path("/proc/sys/net/ipv6").exists():
        settings["net.ipv6.conf.all.disable_ipv6"] = "1"
        settings["net.ipv6.conf.default.disable_ipv6"] = "1"
    if Path("/proc/sys/net/bridge").exists():
        # With br_netfilter a frame from a bridge back into it is translated but never routed: it would get lost, or miss its masquerade.
        settings["net.bridge.bridge-nf-call-iptables"] = "0"
    return settings


def _mac(uid: str) -> str:
    digest = hashlib.sha256(uid.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))
