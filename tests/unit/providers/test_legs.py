"""Legs of control planes: derived, never allocated."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import UserError
from pilvi.plane.registry import registry_uid
from pilvi.providers.legs import control_plane_leg, control_plane_netns
from pilvi.providers.uids import control_plane_uids, find_uid, machine_uids, used_uids
from tests.unit.providers.kamaji.objects import cloud


@given(st.sets(st.integers(min_value=0, max_value=2**14 - 1), min_size=2, max_size=2))
def test_two_addresses_never_share_a_leg(offsets: set[int]) -> None:
    here = msgspec.structs.replace(cloud(), range=IPv4Network("10.250.64.0/18"))
    legs = [control_plane_leg(here, here.range[offset]) for offset in offsets]
    assert len({address for leg in legs for address in (leg.inner, leg.outer)}) == 4
    for leg in legs:
        assert IPv4Network((leg.outer, 31)) == IPv4Network((leg.inner, 31), strict=False)
        assert leg.outer < IPv4Address("169.254.169.254")
        assert max(len(leg.inner_link), len(leg.outer_link)) <= 15


def test_an_address_from_elsewhere() -> None:
    with pytest.raises(UserError, match="not in the cloud's range"):
        control_plane_leg(cloud(), IPv4Address("10.9.9.9"))


def test_a_range_that_is_too_large() -> None:
    large = msgspec.structs.replace(cloud(), range=IPv4Network("10.250.0.0/16"))
    with pytest.raises(UserError, match="too large"):
        control_plane_leg(large, IPv4Address("10.250.3.7"))


def test_names_differ_by_uid() -> None:
    assert control_plane_netns(cloud(), "a") != control_plane_netns(cloud(), "b")


def test_blocks_of_uids_do_not_overlap() -> None:
    here = cloud()
    blocks = [{here.uid_base}, set(control_plane_uids(here)), set(machine_uids(here)), {registry_uid(here)}, {here.uids[-1]}]
    assert sum(map(len, blocks)) == len(set().union(*blocks)) == here.uid_count


def test_recorded_uids() -> None:
    texts = ("700001", "0", "700000", "x", "", "9" * 5000)
    objects = [{"metadata": {"annotations": {"pilvi.dev/uid": text}}} for text in texts] + [{"metadata": {}}]
    uids = range(700001, 700050)
    assert [find_uid(obj, uids) for obj in objects] == [700001, *[None] * 6]
    assert used_uids(objects, uids) == {700001}
