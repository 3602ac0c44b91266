"""Which IPv4 networks this host uses already, from /proc/net: needed once, before anything is there, and without netlink."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

__all__ = ["list_used_networks", "parse_local_addresses", "parse_routes"]

_LOCAL = re.compile(r"\|-- (?P<address>[0-9.]+)\n\s+/32 host LOCAL")
_WIDEST_PREFIX = 2
"""Default routes, and the halves of the address space that VPN clients use as one, say nothing about use."""


def list_used_networks() -> dict[str, IPv4Network]:
    """Networks with the words that an error message should use for them."""
    used = {
        f"address {network.network_address} of this host": network
        for network in parse_local_addresses(Path("/proc/net/fib_trie").read_text())
    }
    for device, network in parse_routes(Path("/proc/net/route").read_text()):
        used[f"route {network} dev {device} of this host"] = network
    return used


def parse_routes(text: str) -> list[tuple[str, IPv4Network]]:
    """Device and destination of each route in /proc/net/route but the widest."""
    routes = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        network = IPv4Network((_address(fields[1]), str(_address(fields[7]))))
        if network.prefixlen >= _WIDEST_PREFIX:
            routes.append((fields[0], network))
    return routes


def parse_local_addresses(text: str) -> list[IPv4Network]:
    """The host's own addresses in /proc/net/fib_trie, as networks of one address, without loopback."""
    found = {IPv4Address(match["address"]) for match in _LOCAL.finditer(text)}
    return [IPv4Network(address) for address in sorted(found) if not address.is_loopback]


def _address(text: str) -> IPv4Address:
    """Eight hex digits in the byte order of the machine."""
    return IPv4Address(struct.pack("=L", int(text, 16)))
