"""What a virtual machine lets in whose interface names `ports`: connections to these, and answers. Pure.

As in KubeVirt this is for interfaces of the pod network with a binding that passes on single ports (masquerade); on others, and without
ports, everything comes in. The kernels that pilvi runs on need not follow connections on bridges, so answers are told by what they are: for
TCP everything but the first segment of a connection, for UDP what comes from where the machine has sent something in the last minutes.
Pings, ARP and DHCP come in always.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pilvi.api import JsonObject
from pilvi.host import nft
from pilvi.host.nft import match

__all__ = ["ASKED", "EVERYTHING", "Openings", "asked_set", "inbound_rules", "note_asked", "read_openings"]

ASKED = "asked"
"""The set of UDP flows that machines with openings have begun: their address and port, and the other side's."""
_BINDINGS = ("masquerade", "passt", "passtBinding", "slirp")
_REMEMBERED_S = 180
_IPV4, _NOT_FIRST = 0x0800, 0x1FFF


@dataclass(frozen=True, order=True)
class Openings:
    """Ranges of ports, first and last, that come in; None is everything."""

    tcp: tuple[tuple[int, int], ...] | None = None
    udp: tuple[tuple[int, int], ...] | None = None


EVERYTHING = Openings()


def read_openings(interface: JsonObject) -> Openings:
    """What an interface lets in. The policies have refused what is no port."""
    if not any(interface.get(binding) is not None for binding in _BINDINGS):
        return EVERYTHING
    named = [(port.get("protocol"), port["port"], port["port"]) for port in interface.get("ports") or ()]
    named += [(ports.get("protocol"), ports["start"], ports["end"]) for ports in interface.get("portRanges") or ()]
    if not named:
        return EVERYTHING

    def of(wanted: str) -> tuple[tuple[int, int], ...]:
        return tuple(sorted({(first, last) for protocol, first, last in named if (protocol or "TCP").upper() == wanted}))

    return Openings(of("TCP"), of("UDP"))


def asked_set() -> JsonObject:
    """The set, for a table with machines that have openings."""
    parts = ["ipv4_addr", "inet_service", "ipv4_addr", "inet_service"]
    return {"set": {"name": ASKED, "type": parts, "flags": ["timeout"], "timeout": _REMEMBERED_S, "size": 65536}}


def note_asked() -> list[JsonObject]:
    """For what a machine sends: note where to, so that the answer is let in."""
    element = {"concat": [_field("ip", "saddr"), _field("udp", "sport"), _field("ip", "daddr"), _field("udp", "dport")]}
    return [match("l4proto", "udp"), {"set": {"op": "update", "elem": element, "set": f"@{ASKED}"}}]


def inbound_rules(openings: Openings) -> Iterator[list[JsonObject]]:
    """For what is about to leave the bridge towards a machine with these openings."""
    yield [match("ether type", _IPV4, "!="), nft.ACCEPT]
    yield [match("l4proto", "icmp"), nft.ACCEPT]
    # Only the first fragment has ports, and the rest is of no use without it.
    yield [match({"&": [_field("ip", "frag-off"), _NOT_FIRST]}, 0, "!="), nft.ACCEPT]
    yield [match({"&": [_field("tcp", "flags"), {"|": ["syn", "ack"]}]}, "syn", "!="), nft.ACCEPT]
    yield [match("udp sport", 67), match("udp dport", 68), nft.ACCEPT]
    for protocol, ranges in (("tcp", openings.tcp), ("udp", openings.udp)):
        if ranges:
            yield [match(f"{protocol} dport", {"set": _joined(ranges)}), nft.ACCEPT]
    answer = {"concat": [_field("ip", "daddr"), _field("udp", "dport"), _field("ip", "saddr"), _field("udp", "sport")]}
    yield [match("l4proto", "udp"), match(answer, f"@{ASKED}"), nft.ACCEPT]
    yield [nft.DROP]


def _joined(ranges: tuple[tuple[int, int], ...]) -> list[Any]:
    """The same ports, as a set of nftables: it refuses ranges that overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return [first if first == last else {"range": [first, last]} for first, last in joined]


def _field(protocol: str, field: str) -> JsonObject:
    return {"payload": {"protocol": protocol, "field": field}}
