"""Interfaces and networks of machines, as the policies of a real API server judge them: the words of each refusal, and what passes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plane.apiserver import ApiServer
from tests.plane.test_crds import create, machine_spec, vm

POD = {"name": "a", "pod": {}}
BACK = {"name": "b", "multus": {"networkName": "back"}}
PATH = "spec.template.spec"


def machine(*interfaces: dict[str, Any], networks: list[dict[str, Any]], name: str = "x") -> dict[str, Any]:
    domain = {**machine_spec()["domain"], "devices": {"interfaces": [*interfaces]}}
    return vm(name, domain=domain, networks=networks)


def two(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **networks: Any) -> dict[str, Any]:
    return machine(
        {"name": "a", "masquerade": {}, **(first or {})},
        {"name": "b", "bridge": {}, **(second or {})},
        networks=[POD | networks.get("a", {}), BACK | networks.get("b", {})],
    )


GOOD = {
    "two": two(),
    "another namespace's": two(b={"multus": {"networkName": "other/back"}}),
    "first by multus": machine({"name": "b", "bridge": {}}, networks=[{"name": "b", "multus": {"networkName": "x", "default": True}}]),
    "none": vm("x", domain={**machine_spec()["domain"], "devices": {"autoattachPodInterface": False}}),
    "ports": two({"ports": [{"port": 80, "name": "web"}, {"port": 53, "protocol": "UDP"}]}),
    "states": two({"state": "down"}, {"state": "absent", "acpiIndex": 7}),
    "told": two(
        second={
            "dhcpOptions": {
                "bootFileName": "grub/x,y.efi",
                "tftpServerName": "10.0.0.1",
                "ntpServers": ["10.0.0.2"],
                "privateOptions": [{"option": 224, "value": "a b"}],
            }
        }
    ),
}


@pytest.mark.parametrize("obj", GOOD.values(), ids=GOOD)
def test_what_machines_may_have(api: ApiServer, obj: dict[str, Any]) -> None:
    answer = create(api, "VirtualMachine", obj, dry_run=True)
    assert (answer.status, answer.warnings) == (201, []), answer.body


FIVE = [{"name": f"n{number}", "multus": {"networkName": f"n{number}"}} for number in range(5)]
BAD = {
    "five": (machine(*({"name": each["name"], "bridge": {}} for each in FIVE), networks=FIVE), ["room for 4", "not for 5"]),
    "name": (machine({"name": "a.b", "bridge": {}}, networks=[{**POD, "name": "a.b"}]), ["letters, digits", "not a.b"]),
    "twice": (machine({"name": "a"}, {"name": "a"}, networks=[POD]), ["the same name"]),
    "no network": (machine({"name": "a"}, {"name": "c"}, networks=[POD]), ["no network called c", f"add it to {PATH}.networks"]),
    "no interface": (machine({"name": "a"}, networks=[POD, BACK]), ["no interface is called b"]),
    "nowhere": (machine({"name": "a"}, networks=[{"name": "a"}]), ["exactly one of pod and multus", "look at a"]),
    "both": (machine({"name": "a"}, networks=[{**BACK, **POD}]), ["exactly one of pod and multus"]),
    "two firsts": (two(b={"multus": {"networkName": "x", "default": True}}), ["only one, not a, b"]),
    "bad reference": (two(b={"multus": {"networkName": "Back.x"}}), ["networkName", "not Back.x"]),
    "same definition": (
        machine({"name": "b"}, {"name": "c"}, networks=[BACK, {"name": "c", "multus": {"networkName": "default/back"}}]),
        ["in each NetworkAttachmentDefinition once"],
    ),
    "masquerade": (machine({"name": "b", "masquerade": {}}, networks=[BACK]), ["masquerade is for the pod network alone"]),
    "state": (two(second={"state": "off"}), ["up, down or absent"]),
    "first absent": (two({"state": "absent"}), ["cannot be absent", "state: down"]),
    "acpi index": (two({"acpiIndex": 0}), ["acpiIndex"]),
    "text": (two(second={"dhcpOptions": {"bootFileName": 'x"\nport=1'}}), ["ASCII text without quotes"]),
    "time server": (two(second={"dhcpOptions": {"ntpServers": ["pool.ntp.org"]}}), ["ntpServers are IPv4 addresses"]),
    "option": (two(second={"dhcpOptions": {"privateOptions": [{"option": 12, "value": "x"}]}}), ["224 to 254"]),
}


@pytest.mark.parametrize(("obj", "words"), BAD.values(), ids=BAD)
def test_what_machines_may_not_have(api: ApiServer, obj: dict[str, Any], words: list[str]) -> None:
    answer = create(api, "VirtualMachine", obj, dry_run=True)
    assert answer.status == 422, answer.body
    for word in words:
        assert word in answer.message


@pytest.mark.parametrize("ports", [[{"port": 0}], [{"port": 65536}], [{"port": 80}, {"port": 80, "protocol": "SCTP"}]])
def test_what_is_no_port(api: ApiServer, ports: list[dict[str, Any]]) -> None:
    answer = create(api, "VirtualMachine", two({"ports": ports}), dry_run=True)
    assert answer.status == 422
    assert "numbers from 1 to 65535, of protocol TCP or UDP" in answer.message
