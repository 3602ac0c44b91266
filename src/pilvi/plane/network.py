"""The cloud's own network on the host: its bridge, the platform's namespace on it, the way to the outside."""

import asyncio
import logging
from ipaddress import IPv4Network

from pilvi.api.cdi.upload import UPLOAD_PORT
from pilvi.api.export import EXPORT_PORT
from pilvi.api.registry import REGISTRY_PORT
from pilvi.controlplane import ControlPlane, control_plane_filter, public_rules
from pilvi.errors import PilviError, format_chain
from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns
from pilvi.host.network import Address, Bridge, NamespaceNetwork, Route, Veth, VethEnd, ensure_network, ensure_veth
from pilvi.lib.together import together

EVERYWHERE = IPv4Network("0.0.0.0/0")
CHECK_S = 300.0
PUBLIC_PORTS = (UPLOAD_PORT, EXPORT_PORT, REGISTRY_PORT)
"""What everybody may dial on the platform's address beside its API: the engine's listeners for uploads and exports, and the registry."""
# The registry has the port that clients expect, without being root.
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": str(REGISTRY_PORT)}

log = logging.getLogger(__name__)


def host_network(cloud: Cloud) -> NamespaceNetwork:
    """The cloud's bridge in the host's namespace, with the host's addresses in both ranges."""
    return NamespaceNetwork(
        netns=None,
        bridges=(Bridge(cloud.bridge),),
        addresses=(Address(cloud.bridge, cloud.host_address), Address(cloud.bridge, cloud.transit_gateway)),
    )


def platform_link(cloud: Cloud) -> Veth:
    """The cable between the bridge and the platform's namespace."""
    return Veth(
        a=VethEnd(netns=None, name=cloud.link_name("plane"), master=cloud.bridge),
        b=VethEnd(netns=cloud.netns("plane"), name="eth0", addresses=(cloud.platform_address,)),
    )


def platform_network(cloud: Cloud) -> NamespaceNetwork:
    """The platform's namespace: everything beyond the bridge goes by the host."""
    route = Route(prefix=EVERYWHERE, via=cloud.host_address.ip, dev="eth0")
    return NamespaceNetwork(netns=cloud.netns("plane"), routes=(route,), sysctls=SYSCTLS)


def platform_filter(cloud: Cloud, plane: ControlPlane) -> nft.JsonObject:
    """The nft table of the platform's namespace: the engine's numbers and Cluster API's webhooks are for the host only."""
    return control_plane_filter(plane, cloud.nft_table, trusted=cloud.host_address.ip, ports=PUBLIC_PORTS)


def host_table(cloud: Cloud, plane: ControlPlane) -> nft.JsonObject:
    """The nft table of the host that gives packets from the cloud's addresses the host's address when they leave the cloud.

    And the other way round: what the host passes on to the platform may have got the host's address on its way (containers, another
    cloud), and the platform trusts that one. So it is looked at here, where it is seen where it came in.
    """
    ours = {"set": [_prefix(cloud.range), _prefix(cloud.transit)]}
    to_platform = (nft.match("oifname", cloud.bridge), nft.match("ip daddr", str(cloud.platform_address.ip)))
    return nft.table(
        cloud.nft_table,
        [
            nft.chain("postrouting", type="nat", hook="postrouting", priority=100),
            nft.chain("forward", hook="forward"),
            nft.chain("platform"),
            nft.rule("postrouting", nft.match("ip saddr", ours), nft.match("oifname", cloud.bridge, "!="), {"masquerade": None}),
            nft.rule("forward", *to_platform, {"jump": {"target": "platform"}}),
            *(nft.rule("platform", *statements) for statements in (*public_rules(plane, PUBLIC_PORTS), [nft.DROP])),
        ],
        family="ip",
    )


async def ensure_cloud_network(cloud: Cloud, plane: ControlPlane) -> None:
    """Make or mend all of it; may be called repeatedly. Raises DriverError, OSError."""
    await ensure_netns(cloud.netns("plane"))
    await together(
        _ensure_links(cloud),
        nft.apply(cloud.netns("plane"), [platform_filter(cloud, plane)]),
        nft.apply(None, [host_table(cloud, plane)]),
    )


async def keep_cloud_network(cloud: Cloud, plane: ControlPlane) -> None:
    """Mend it for as long as the engine runs, whatever hands or other programs do to it. Ends by cancellation only."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await ensure_cloud_network(cloud, plane)
        except (PilviError, OSError) as e:
            log.warning("the cloud's network cannot be mended now: %s", format_chain(e))


async def _ensure_links(cloud: Cloud) -> None:
    await ensure_network(host_network(cloud))
    await ensure_veth(platform_link(cloud))
    await ensure_network(platform_network(cloud))


def _prefix(network: IPv4Network) -> nft.JsonObject:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
