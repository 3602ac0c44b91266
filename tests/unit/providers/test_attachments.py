"""Which networks a machine is in, and what its addresses there are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api.resource import Key
from pilvi.providers.attachments import find_attachments, ip_key, split_ip_name
from pilvi.providers.names import machine_port

LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


def spec(*interfaces: dict[str, Any], networks: Any = (), **devices: Any) -> dict[str, Any]:
    return {"domain": {"devices": {"interfaces": [*interfaces], **devices}}, "networks": [*networks]}


POD = {"name": "default", "pod": {}}
BACK = {"name": "back", "multus": {"networkName": "back"}}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, [("default", "ovn", True)]),
        ({"domain": None, "networks": None}, [("default", "ovn", True)]),
        (spec(autoattachPodInterface=False), []),
        (spec({"name": "x"}), [("x", "ovn", True)]),
        (spec(networks=[POD]), [("default", "ovn", True)]),
        (spec({"name": "back"}, {"name": "default"}, networks=[POD, BACK]), [("back", "back.team.ovn", False), ("default", "ovn", True)]),
        (
            spec({"name": "far"}, networks=[{"name": "far", "multus": {"networkName": "other/far", "default": True}}]),
            [("far", "far.other.ovn", True)],
        ),
    ],
)
def test_interfaces_and_their_networks(given: dict[str, Any], found: list[tuple[str, str, bool]]) -> None:
    attachments = find_attachments(given, "team")
    assert [(each.name, each.provider, each.is_default) for each in attachments] == found
    assert [each.place for each in attachments] == [*range(len(found))]


def test_an_absent_interface_keeps_its_place() -> None:
    first, second = find_attachments(spec({"name": "back", "state": "absent"}, {"name": "default"}, networks=[POD, BACK]), "team")
    assert (first.is_absent, second.is_absent, second.place) == (True, False, 1)


@given(name=st.lists(LABEL, min_size=1, max_size=3).map(".".join), namespace=LABEL, network=st.one_of(st.none(), st.tuples(LABEL, LABEL)))
def test_names_of_ip_objects_can_be_read(name: str, namespace: str, network: tuple[str, str] | None) -> None:
    provider = "ovn" if network is None else f"{network[0]}.{network[1]}.ovn"
    if "." in name and namespace == "ovn":
        return  # refused by the policy of VirtualMachineInstances
    assert split_ip_name(ip_key(Key(namespace, name), provider).name) == (Key(namespace, name), provider)


def test_ports_of_a_machine_begin_alike_and_differ() -> None:
    ports = {machine_port("uid", provider) for provider in ("ovn", "a.team.ovn", "b.team.ovn")}
    assert len(ports) == 3
    assert all(port.startswith(machine_port("uid")) and len(port) <= 15 for port in ports)
