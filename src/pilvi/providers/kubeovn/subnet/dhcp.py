"""A Subnet's `dhcpV4Options`: OVN's words for DHCP options, `name=value` with commas between them (ovn-nb(5), DHCP_Options). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pilvi.errors import UserError

__all__ = ["FOREVER_S", "DhcpOptions", "parse_dhcp_options"]

FOREVER_S = 999 * 24 * 3600
"""The lease of KubeVirt's own server: a machine has its address for good."""

_ITEM = re.compile(r"\s*(?P<name>[a-z_0-9]+)\s*=\s*(?P<value>\{[^{}]*\}|[^,{}]*?)\s*(?:,|$)")
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_SHORTEST_LEASE_S = 120
_SMALLEST_MTU, _LARGEST_MTU = 576, 65535


@dataclass(frozen=True)
class DhcpOptions:
    """What machines of a Subnet are told. None, zero and nothing stand for the gateway, the Subnet's MTU, the machine's namespace."""

    router: IPv4Address | None = None
    dns_servers: tuple[IPv4Address, ...] = ()
    ntp_servers: tuple[IPv4Address, ...] = ()
    mtu: int = 0
    domain: str = ""
    lease_s: int = FOREVER_S


def parse_dhcp_options(text: str) -> DhcpOptions:
    """Raises UserError that names what is wrong, or what there is."""
    found: dict[str, Any] = {}
    position = 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise UserError(f"{text[position:].strip()!r} is not name=value", hint="write for example lease_time=3600,dns_server=10.0.1.53")
        position = item.end()
        name, value = item["name"], item["value"].strip("{} ")
        if name in _SERVER:
            continue
        if name not in _OPTIONS:
            raise UserError(f"option {name} is not served", hint=f"leave it out; there are {', '.join([*_OPTIONS, *_SERVER])}")
        field, parse = _OPTIONS[name]
        try:
            found[field] = parse(value)
        except ValueError as e:
            raise UserError(f"{name}={value}: {e}", hint="correct it or leave it out") from e
    return DhcpOptions(**found)


def _addresses(text: str) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(word.strip()) for word in text.split(","))


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high):
            raise ValueError(f"not a number from {low} to {high}")
        return int(text)

    return parse


def _domain(text: str) -> str:
    name = text.strip('"').lower()
    if len(name) > 253 or _DOMAIN.fullmatch(name) is None:  # of DNS
        raise ValueError("not a domain name")
    return name


# Who the server is, is not for a Subnet to say; Kube-OVN's own default names both.
_SERVER = ("server_id", "server_mac")
_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "router": ("router", IPv4Address),
    "dns_server": ("dns_servers", _addresses),
    "ntp_server": ("ntp_servers", _addresses),
    "mtu": ("mtu", _number(_SMALLEST_MTU, _LARGEST_MTU)),
    "domain_name": ("domain", _domain),
    "lease_time": ("lease_s", _number(_SHORTEST_LEASE_S, 2**32 - 2)),
}
