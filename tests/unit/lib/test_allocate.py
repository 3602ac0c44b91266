from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.lib.allocate import find_free_address, find_free_number, find_free_prefix, find_overlap, parse_range

NETWORK = IPv4Network("10.0.0.0/28")
offsets = st.integers(0, 15)


def address(offset: int) -> IPv4Address:
    return NETWORK[offset]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("10.0.0.1..10.0.0.9", "10.0.0.1", "10.0.0.9"),
        ("10.0.0.1 - 10.0.0.9", "10.0.0.1", "10.0.0.9"),
        ("10.0.0.0/30", "10.0.0.0", "10.0.0.3"),
    ],
)
def test_parse_range(text: str, first: str, last: str) -> None:
    assert parse_range(text) == (IPv4Address(first), IPv4Address(last))


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.9..10.0.0.1", "a..b", "10.0.0.1/24", "10.0.0.1.."])
def test_bad_range(text: str) -> None:
    with pytest.raises(UserError):
        parse_range(text)


@given(st.sets(offsets), st.lists(st.tuples(offsets, offsets).map(sorted)), offsets)
def test_lowest_free_address(used: set[int], excludes: list[list[int]], first: int) -> None:
    expected = next(
        (o for o in range(1, 15) if o >= first and o not in used and not any(low <= o <= high for low, high in excludes)),
        None,
    )
    found = find_free_address(
        NETWORK, {address(o) for o in used}, [(address(low), address(high)) for low, high in excludes], first=address(first)
    )
    assert found == (None if expected is None else address(expected))


def test_edges_of_tiny_networks() -> None:
    assert find_free_address(IPv4Network("10.0.0.4/31"), set()) == IPv4Address("10.0.0.4")
    assert find_free_address(IPv4Network("10.0.0.4/32"), set()) == IPv4Address("10.0.0.4")
    assert find_free_address(IPv4Network("10.0.0.4/30"), {IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")}) is None


def test_a_large_excluded_range_costs_nothing() -> None:
    network = IPv4Network("10.0.0.0/8")
    excluded = (IPv4Address("10.0.0.0"), IPv4Address("10.255.0.0"))
    assert find_free_address(network, set(), [excluded]) == IPv4Address("10.255.0.1")


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32))), st.integers(24, 32))
def test_lowest_free_prefix(taken: list[tuple[int, int]], length: int) -> None:
    pool = IPv4Network("10.1.2.0/24")
    used = [IPv4Network((int(pool[0]) + offset, size), strict=False) for offset, size in taken]
    expected = next((n for n in pool.subnets(new_prefix=length) if not any(n.overlaps(u) for u in used)), None)
    assert find_free_prefix(pool, length, used) == expected


def test_prefix_larger_than_its_pool_and_foreign_networks() -> None:
    assert find_free_prefix(IPv4Network("10.0.0.0/24"), 16, []) is None
    assert find_free_prefix(IPv4Network("10.0.1.0/24"), 25, [IPv4Network("9.0.0.0/8"), IPv4Network("10.0.0.0/16")]) is None
    assert find_free_prefix(IPv4Network("10.0.1.0/24"), 25, [IPv4Network("11.0.0.0/8")]) == IPv4Network("10.0.1.0/25")


def test_numbers() -> None:
    assert find_free_number(5, 7, {5, 6}) == 7
    assert find_free_number(5, 6, {5, 6}) is None


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=8))
def test_overlap(members: list[tuple[int, int]]) -> None:
    networks = {f"n{i}": IPv4Network((0x0A000000 + offset, size), strict=False) for i, (offset, size) in enumerate(members)}
    names = list(networks)
    exists = any(networks[a].overlaps(networks[b]) for i, a in enumerate(names) for b in names[i + 1 :])
    found = find_overlap(networks)
    assert (found is not None) == exists
    if found is not None:
        assert networks[found[0]].overlaps(networks[found[1]])
