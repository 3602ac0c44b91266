"""What virtual machines may send into the bridges of a VPC: frames from their own MAC and address; and what they let in (`inbound.py`).

One pure function.

Inside a virtual machine runs somebody's system, and its neighbours on the bridge, the router included, believe what ARP says. So a
port that is a tap passes only

    ARP      about the machine's own address and the networks behind it, and whether its own address is free
    DHCP     questions that ask for its own MAC; answers of servers are nobody's but the router's
    RARP     by which QEMU tells bridges where a machine has moved to
    IPv4     from its own address, and from the networks that the router routes to it: its pods, static routes

and nothing else: no IPv6, which nobody routes or checks here, and no tagged frames. OVN does the same for a port whose
`port_security` names a MAC and an IPv4 address (ovn-nb(5)). A tap that is no machine's passes nothing.

Ports of sandboxes pass everything: root in one is root on the host and could take the rule away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, collapse_addresses

from pilvi.api import JsonObject
from pilvi.host import nft
from pilvi.host.nft import match
from pilvi.providers.kubeovn.vpc.inbound import EVERYTHING, asked_set, inbound_rules, note_asked
from pilvi.providers.kubeovn.vpc.router import Machine, Router
from pilvi.providers.names import SLOTS, port_in_slot

__all__ = ["port_rules"]

_IS_TAP = match("iifkind", "tun")
# The client's hardware address in a DHCP message: 8 bytes of UDP, 28 of BOOTP.
_CHADDR = {"payload": {"base": "th", "offset": (8 + 28) * 8, "len": 48}}
_RARP = 0x8035
_TAGS = (0x8100, 0x88A8)
_PRIORITY = -200  # what nft calls `filter` on a bridge


def port_rules(router: Router, table: str) -> JsonObject:
    """The table of the namespace's bridges, as `nft.apply` takes it."""
    machines = {machine.port: machine for machine in router.machines if machine.port and machine.virtual and machine.mac}
    subnets = [subnet.cidr for subnet in router.subnets]
    content = [nft.chain("prerouting", hook="prerouting", priority=_PRIORITY)]
    content += [nft.chain(port) for port in machines]
    content.append(nft.rule("prerouting", _IS_TAP, match("udp sport", 67), match("udp dport", 68), nft.DROP))
    if machines:
        # While a machine moves it has a port in each slot, and only the one whose process runs its guest sends anything.
        jumps = [[port_in_slot(port, slot), {"goto": {"target": port}}] for port in machines for slot in SLOTS]
        content.append(nft.rule("prerouting", _IS_TAP, {"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": jumps}}}))
    content.append(nft.rule("prerouting", _IS_TAP, nft.DROP))
    for port, machine in machines.items():
        own = [IPv4Network(machine.address), *_behind(router, machine, subnets)]
        content += [nft.rule(port, *statements) for statements in _of_machine(machine, own)]
    content += _inbound({port: machine for port, machine in machines.items() if machine.openings != EVERYTHING})
    return nft.table(table, content, family="bridge")


def _of_machine(machine: Machine, own: Iterable[IPv4Network]) -> Iterator[list[JsonObject]]:
    mac, address = str(machine.mac), str(machine.address)
    sources = {"set": [_prefix(network) for network in sorted(collapse_addresses(own))]}
    yield [match("ether saddr", mac, "!="), nft.DROP]
    # What such a frame holds would be looked at, but not what the tag means to who gets it.
    yield [match("ether type", {"set": list(_TAGS)}), nft.DROP]
    yield [match("ether type", _RARP), nft.ACCEPT]
    yield [match("arp saddr ether", mac, "!="), nft.DROP]
    yield [match("arp saddr ip", sources), nft.ACCEPT]
    yield [match("arp saddr ip", "0.0.0.0"), match("arp daddr ip", address), nft.ACCEPT]  # noqa: S104 (a probe of RFC 5227)
    yield [match("udp dport", 67), match(_CHADDR, int(mac.replace(":", ""), 16), "!="), nft.DROP]
    yield [match("ip saddr", "0.0.0.0"), match("ip daddr", "255.255.255.255"), match("udp dport", 67), nft.ACCEPT]  # noqa: S104
    if machine.openings != EVERYTHING:
        yield [match("ip saddr", sources), *note_asked()]
    yield [match("ip saddr", sources), nft.ACCEPT]
    yield [nft.DROP]


def _inbound(machines: Mapping[str, Machine]) -> Iterator[JsonObject]:
    """What goes to machines with openings passes a chain of theirs."""
    if not machines:
        return
    jumps = [[port_in_slot(port, slot), {"goto": {"target": f"to-{port}"}}] for port in machines for slot in SLOTS]
    yield asked_set()
    yield nft.chain("postrouting", hook="postrouting", priority=_PRIORITY)
    yield from (nft.chain(f"to-{port}") for port in machines)
    yield nft.rule("postrouting", {"vmap": {"key": {"meta": {"key": "oifname"}}, "data": {"set": jumps}}})
    for port, machine in machines.items():
        yield from (nft.rule(f"to-{port}", *statements) for statements in inbound_rules(machine.openings))


def _behind(router: Router, machine: Machine, subnets: Iterable[IPv4Network]) -> list[IPv4Network]:
    """The networks that the router routes to the machine, without the subnets, also where it has the way to everywhere."""
    networks = [route.destination for route in (*router.pod_routes, *router.static_routes) if route.via == machine.address]
    for subnet in subnets:
        networks = [rest for network in networks for rest in _without(network, subnet)]
    return networks


def _without(network: IPv4Network, part: IPv4Network) -> Iterable[IPv4Network]:
    if part.subnet_of(network):
        return network.address_exclude(part)
    return [] if network.subnet_of(part) else [network]


def _prefix(network: IPv4Network) -> JsonObject:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
