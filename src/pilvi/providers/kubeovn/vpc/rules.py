"""The packet filter and address translation of one VPC's router, as one pure function of everything it depends on.

Who may talk to whom:

    from              to                 allowed
    a subnet          a subnet           yes, unless the target is private and does not allow the source
    a subnet          outside, cloud     yes, with the transit address as source; other routers' transit addresses are not for it
    a subnet          a control plane    its cloud address only
    a control plane   a subnet           yes
    uplink            a subnet           only what was translated from a published address, or answers
    anything          the router         ping and answers; DNS and DHCP from subnets

Anything else is refused. A Service's cloud address is translated to one of its endpoints; the client's address is kept, except for
clients inside the same VPC, whose answers would otherwise take the short way and miss the router.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, collapse_addresses
from typing import Any, TypeAlias

from pilvi.api import JsonObject
from pilvi.host import nft
from pilvi.host.nft import match
from pilvi.providers.kubeovn.vpc.router import UPLINK, Router
from pilvi.providers.legs import LEGS
from pilvi.providers.published import Published, ServicePort

__all__ = ["router_rules"]

Statement: TypeAlias = dict[str, Any]

_SUBNETS = "sn*"
# A fixed seed: a table that is written again must send a sticky client to the same endpoint.
_SEED = 117
# Of nftables, in bytes.
_LONGEST_COMMENT = 127

_PROHIBITED: Statement = {"reject": {"type": "icmp", "expr": "admin-prohibited"}}
_UNREACHABLE: Statement = {"reject": {"type": "icmp", "expr": "port-unreachable"}}
_TRANSLATED: Statement = match({"ct": {"key": "status"}}, "dnat", "in")


def router_rules(router: Router, table: str) -> JsonObject:
    """The one table of the router's namespace, as `nft.apply` takes it."""
    content = [
        nft.chain("prerouting", type="nat", hook="prerouting", priority=-100),
        nft.chain("input", hook="input", policy="drop"),
        nft.chain("forward", hook="forward", policy="drop"),
        nft.chain("postrouting", type="nat", hook="postrouting", priority=100),
        *(nft.rule("prerouting", *statements, comment=comment) for comment, statements in _prerouting(router)),
        *(nft.rule("input", *statements) for statements in _input()),
        *(nft.rule("forward", *statements) for statements in _forward(router)),
        *(nft.rule("postrouting", *statements) for statements in _postrouting(router)),
    ]
    return nft.table(table, content, family="ip")


def _prerouting(router: Router) -> Iterator[tuple[str, list[Statement]]]:
    for published in router.published:
        for port in published.ports:
            if port.backends:
                yield f"Service {published.key}"[:_LONGEST_COMMENT], _translate(published, port)


def _input() -> Iterator[list[Statement]]:
    yield [nft.KNOWN, nft.ACCEPT]
    yield [match("iifname", "lo"), nft.ACCEPT]
    yield [match("icmp type", "echo-request"), nft.ACCEPT]
    for protocol in ("udp", "tcp"):
        yield [match("iifname", _SUBNETS), match(f"{protocol} dport", 53), nft.ACCEPT]
    yield [match("iifname", _SUBNETS), match("udp dport", 67), nft.ACCEPT]
    # A published address without an endpoint, or a port that is not published: say so at once, do not let the client wait.
    yield [_UNREACHABLE]


def _forward(router: Router) -> Iterator[list[Statement]]:
    yield [nft.KNOWN, nft.ACCEPT]
    yield [_TRANSLATED, nft.ACCEPT]
    for subnet in router.subnets:
        if subnet.private:
            # Pods behind a machine of this subnet come in by its bridge too, with addresses of their own.
            others = [match("iifname", _SUBNETS), match("iifname", subnet.bridge, "!="), match("oifname", subnet.bridge)]
            allowed = [match("ip saddr", _networks(subnet.allow_subnets), "!=")] if subnet.allow_subnets else []
            yield [*others, *allowed, _PROHIBITED]
    yield [match("iifname", _SUBNETS), match("oifname", _SUBNETS), nft.ACCEPT]
    nobody = _networks([LEGS, router.transit.network])
    yield [match("iifname", _SUBNETS), match("oifname", UPLINK), match("ip daddr", nobody, "!="), nft.ACCEPT]
    for leg in router.legs:
        yield [match("iifname", _SUBNETS), match("oifname", leg.link), match("ip daddr", str(leg.address)), nft.ACCEPT]
        yield [match("iifname", leg.link), match("oifname", _SUBNETS), nft.ACCEPT]
    yield [match("iifname", _SUBNETS), _PROHIBITED]


def _postrouting(router: Router) -> Iterator[list[Statement]]:
    yield [match("oifname", UPLINK), {"snat": {"addr": str(router.transit.ip)}}]
    yield [_TRANSLATED, match("iifname", _SUBNETS), match("oifname", _SUBNETS), {"masquerade": None}]


def _translate(published: Published, port: ServicePort) -> list[Statement]:
    count = len(port.backends)
    choice: Statement = {"numgen": {"mode": "random", "mod": count, "offset": 0}}
    if published.sticky:
        source = {"payload": {"protocol": "ip", "field": "saddr"}}
        choice = {"jhash": {"mod": count, "seed": _SEED, "offset": 0, "expr": source}}
    targets = [[index, {"concat": [str(backend.address), backend.port]}] for index, backend in enumerate(port.backends)]
    return [
        match("ip daddr", str(published.address)),
        match(f"{port.protocol.lower()} dport", port.port),
        {"dnat": {"family": "ip", "addr": {"map": {"key": choice, "data": {"set": targets}}}, "type_flags": "concat"}},
    ]


def _networks(networks: Iterable[IPv4Network]) -> Statement:
    # nftables refuses overlapping members of a set; a network inside another adds nothing.
    return {"set": [_prefix(network) for network in sorted(collapse_addresses(networks))]}


def _prefix(network: IPv4Network) -> Statement:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
