"""Which addresses of a Subnet are in use and which are left, as numbers and as text.

Works on intervals, so that a /8 costs no more than a /24.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from pilvi.lib.allocate import AddressRange
from pilvi.providers.kubeovn.subnet.plan import SubnetPlan

__all__ = ["count_addresses", "format_ranges", "free_ranges", "merge_addresses"]


def merge_addresses(addresses: Iterable[IPv4Address]) -> list[AddressRange]:
    """The addresses as ordered ranges, neighbours joined."""
    return _merge((int(address), int(address)) for address in addresses)


def free_ranges(plan: SubnetPlan, used: Iterable[IPv4Address]) -> list[AddressRange]:
    """What a machine of this Subnet can still get: all host addresses that are neither excluded nor used."""
    taken = _merge([*((int(low), int(high)) for low, high in plan.excludes), *((int(a), int(a)) for a in used)])
    first, last = int(plan.cidr.network_address) + 1, int(plan.cidr.broadcast_address) - 1
    free = []
    for low, high in taken:
        if int(low) > first:
            free.append((IPv4Address(first), IPv4Address(min(int(low) - 1, last))))
        first = max(first, int(high) + 1)
    if first <= last:
        free.append((IPv4Address(first), IPv4Address(last)))
    return free


def count_addresses(ranges: Iterable[AddressRange]) -> int:
    """How many addresses the ranges hold."""
    return sum(int(high) - int(low) + 1 for low, high in ranges)


def format_ranges(ranges: Iterable[AddressRange]) -> str:
    """As Kube-OVN writes them in status: `10.0.0.2-10.0.0.9,10.0.0.12`."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _merge(ranges: Iterable[tuple[int, int]]) -> list[AddressRange]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return [(IPv4Address(low), IPv4Address(high)) for low, high in merged]
