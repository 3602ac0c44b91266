"""What the host lets in from the cloud's bridge, as one pure function of all routers.

Whatever is on the bridge may go through the host, but of the host itself it gets only:

    from                              to the host
    anything                          answers, ICMP; DNS of those addresses that the VPCs' resolvers ask
    the platform                      everything: its API server calls what listens on the host
    a VPC, its control planes         ports that `pilvi.dev/host-ports` of the Vpc opens

A control plane counts as its VPC, since who administers a cluster can have its API server call any address. The filter looks before
addresses are translated: a port that the host passes on to a container (Docker does) is a port of the host too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.api import JsonObject
from pilvi.host import nft
from pilvi.host.nft import match
from pilvi.providers.kubeovn.vpc.router import Router

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["host_filter"]

# After the kernel has found the connection (-200), before it translates the destination (-100).
_PRIORITY = -150
_LOCAL = match({"fib": {"result": "type", "flags": "daddr"}}, "local")


def host_filter(cloud: Cloud, routers: Iterable[Router], nameservers: Collection[IPv4Address]) -> JsonObject:
    """The table `cloud.nft_host_table`. `nameservers` may hold addresses that are not the host's: those are not asked about here."""
    return nft.table(
        cloud.nft_host_table,
        [
            nft.chain("prerouting", hook="prerouting", priority=_PRIORITY),
            nft.chain("host"),
            nft.rule("prerouting", match("iifname", cloud.bridge), _LOCAL, {"jump": {"target": "host"}}),
            *(nft.rule("host", *statements) for statements in _host(cloud, routers, nameservers)),
        ],
    )


def _host(cloud: Cloud, routers: Iterable[Router], nameservers: Collection[IPv4Address]) -> Iterator[list[JsonObject]]:
    yield [nft.KNOWN, nft.ACCEPT]
    yield [nft.ICMP, nft.ACCEPT]
    yield [match("ip saddr", str(cloud.platform_address.ip)), nft.ACCEPT]
    if nameservers:
        for protocol in ("udp", "tcp"):
            yield [match("ip daddr", _addresses(nameservers)), match(f"{protocol} dport", 53), nft.ACCEPT]
    for router in sorted(routers, key=lambda router: router.transit):
        sources = _addresses([router.transit.ip, *(leg.address for leg in router.legs)])
        for opened in router.host_ports:
            yield [match("ip saddr", sources), match(f"{opened.protocol} dport", opened.port), nft.ACCEPT]
    yield [nft.DROP]


def _addresses(addresses: Iterable[IPv4Address]) -> JsonObject:
    return {"set": [str(address) for address in sorted(set(addresses))]}
