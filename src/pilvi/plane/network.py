"""The cloud's own network on the host: its bridge, the platform's namespace on it, the way to the outside."""

from ipaddress import IPv4Network

from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns
from pilvi.host.network import Address, Bridge, NamespaceNetwork, Route, Veth, VethEnd, ensure_network, ensure_veth

EVERYWHERE = IPv4Network("0.0.0.0/0")


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
    return NamespaceNetwork(netns=cloud.netns("plane"), routes=(Route(prefix=EVERYWHERE, via=cloud.host_address.ip, dev="eth0"),))


def masquerade_table(cloud: Cloud) -> nft.JsonObject:
    """The nft table that gives packets from the cloud's addresses the host's address when they leave the cloud."""
    ours = {"set": [_prefix(cloud.range), _prefix(cloud.transit)]}
    return nft.table(
        cloud.nft_table,
        [
            nft.chain("postrouting", type="nat", hook="postrouting", priority=100),
            nft.rule("postrouting", nft.match("ip saddr", ours), nft.match("oifname", cloud.bridge, "!="), {"masquerade": None}),
        ],
        family="ip",
    )


async def ensure_cloud_network(cloud: Cloud) -> None:
    """Make or mend all of it; may be called repeatedly. Raises DriverError."""
    await ensure_network(host_network(cloud))
    await ensure_netns(cloud.netns("plane"))
    await ensure_veth(platform_link(cloud))
    await ensure_network(platform_network(cloud))
    await nft.apply(None, [masquerade_table(cloud)])


def _prefix(network: IPv4Network) -> nft.JsonObject:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
