"""Pure allocators: the lowest free address, prefix or number, given everything that is taken.

None of them remembers anything. The caller lists what is used (from the API), asks, records the answer in the API, and only
then uses it.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from pilvi.errors import UserError

__all__ = ["AddressRange", "find_free_address", "find_free_number", "find_free_prefix", "find_overlap", "parse_range"]

AddressRange = tuple[IPv4Address, IPv4Address]


def parse_range(text: str) -> AddressRange:
    """`a..b`, `a-b`, `a/len` or a single address as (first, last), both included. Raises UserError.

    Kube-OVN writes `excludeIps` with two dots, MetalLB writes pools with a dash.
    """
    try:
        for mark in ("..", "-"):
            if mark in text:
                first, last = (IPv4Address(part.strip()) for part in text.split(mark, 1))
                break
        else:
            network = IPv4Network(text.strip())
            first, last = network[0], network[-1]
    except ValueError as e:
        raise UserError(f"{text!r} is not an IPv4 range", hint="write 10.0.0.10, 10.0.0.10..10.0.0.20 or 10.0.0.0/28") from e
    if last < first:
        raise UserError(f"range {text!r} ends before it begins", hint="write the lower address first")
    return first, last


def find_free_address(
    network: IPv4Network, used: Container[IPv4Address], excludes: Iterable[AddressRange] = (), *, first: IPv4Address | None = None
) -> IPv4Address | None:
    """The lowest host address of `network` that is neither used nor excluded, at or above `first`; None when there is none.

    Network and broadcast address are never given, except in a /31 (both are hosts) and a /32.
    """
    edge = 0 if network.prefixlen >= 31 else 1
    candidate = max(int(network.network_address) + edge, int(first) if first is not None else 0)
    end = int(network.broadcast_address) - edge
    for low, high in sorted((int(low), int(high)) for low, high in excludes):
        found = _find_unused(candidate, min(low - 1, end), used)
        if found is not None:
            return found
        candidate = max(candidate, high + 1)
    return _find_unused(candidate, end, used)


def find_free_prefix(pool: IPv4Network, prefix_length: int, used: Iterable[IPv4Network]) -> IPv4Network | None:
    """The lowest network of `prefix_length` in `pool` that overlaps no used one; None when there is none or it cannot fit."""
    if prefix_length < pool.prefixlen:
        return None
    size = 1 << (32 - prefix_length)
    candidate = int(pool.network_address)
    end = int(pool.broadcast_address)
    for low, high in sorted((int(taken[0]), int(taken[-1])) for taken in used):
        if candidate + size - 1 > end or low > candidate + size - 1:
            break
        if high >= candidate:
            candidate = (high // size + 1) * size
    return IPv4Network((candidate, prefix_length)) if candidate + size - 1 <= end else None


def find_free_number(first: int, last: int, used: Container[int]) -> int | None:
    """The lowest number of first..last (both included) that is not used; None when all are."""
    return next((number for number in range(first, last + 1) if number not in used), None)


def find_overlap(ranges: Mapping[str, IPv4Network]) -> tuple[str, str] | None:
    """The names of two networks that share an address, or None. Names are what the error message should call them."""
    ordered = sorted(ranges.items(), key=lambda item: (int(item[1][0]), -item[1].num_addresses))
    for (name, network), (next_name, next_network) in itertools.pairwise(ordered):
        if network.overlaps(next_network):
            return name, next_name
    return None


def _find_unused(low: int, high: int, used: Container[IPv4Address]) -> IPv4Address | None:
    return next((address for number in range(low, high + 1) if (address := IPv4Address(number)) not in used), None)
