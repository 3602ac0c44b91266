"""Machines in several networks: the example with two disks and two cards, a neighbour without, and cards that come and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.lib.hashing import short_hash
from tests.e2e.cloud import CloudUnderTest, is_true, wait_until
from tests.e2e.guests import console, guest_machine, push_guest
from tests.images.registry import FakeRegistry, registry_in_thread

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-two-disks-network.yaml"
SECOND = {"name": "back", "bridge": {}}
BACK_ADDRESS = "192.168.50.10"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        yield made


def example(namespace: str, image: str) -> list[dict[str, Any]]:
    """The objects of the example in this namespace, small; what belongs to no namespace has a name of its own."""
    text = EXAMPLE.read_text().replace("back.default.ovn", f"back.{namespace}.ovn").replace("storage: 1Gi", "storage: 16Mi")
    objects: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    for obj in objects:
        if obj["kind"] in ("Vpc", "Subnet"):
            obj["metadata"]["name"] = network(namespace)
            obj["spec"] = {**obj["spec"], **({"vpc": network(namespace)} if obj["kind"] == "Subnet" else {})}
        else:
            obj["metadata"]["namespace"] = namespace
        if obj["kind"] == "VirtualMachine":
            template = obj["spec"]["template"]["spec"]
            template["domain"]["memory"]["guest"] = "192Mi"
            template["volumes"][0]["containerDisk"]["image"] = image
    return objects


def network(namespace: str) -> str:
    return f"back-{short_hash(namespace)}"


def reaches(cloud: CloudUnderTest, namespace: str, machine: str, address: str) -> bool:
    said = console(cloud, namespace, machine, f"ping -c 1 -W 2 {address} >/dev/null && echo 'an ''answer' || echo 'no ''answer'")
    assert said.strip() in ("an answer", "no answer"), said
    return said.strip() == "an answer"


def interfaces(cloud: CloudUnderTest, namespace: str, machine: str) -> dict[str, dict[str, Any]]:
    status = cloud.get("-n", namespace, "vmi", machine).get("status") or {}
    return {entry["name"]: entry for entry in status.get("interfaces") or []}


def set_second(cloud: CloudUnderTest, namespace: str, state: str | None) -> None:
    """Have the template of `plain` name the second network, in this state."""
    template = cloud.get("-n", namespace, "vm", "plain")["spec"]["template"]["spec"]
    first, pod = template["domain"]["devices"]["interfaces"][0], template["networks"][0]
    second = {**SECOND, **({"state": state} if state else {})}
    networks = [pod, {"name": "back", "multus": {"networkName": "back"}}]
    patch = {"spec": {"template": {"spec": {"domain": {"devices": {"interfaces": [first, second]}}, "networks": networks}}}}
    cloud.kubectl("-n", namespace, "patch", "vm", "plain", "--type=merge", "-p", json.dumps(patch))


def test_two_disks_two_networks_and_a_card_that_comes_and_goes(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    image = push_guest(registry)
    try:
        for obj in (*example(namespace, image), guest_machine(namespace, image, name="plain")):
            cloud.apply(obj)
        for name in ("ledger", "plain"):
            wait_until(lambda name=name: is_true(cloud.get("-n", namespace, "vm", name), "Ready"), f"{name} to be ready")  # type: ignore[misc]
        the_example_is_as_it_says(cloud, namespace)
        only_who_has_a_card_there_reaches_the_network(cloud, namespace)
        a_card_comes_and_goes(cloud, namespace)
    finally:
        cloud.kubectl("-n", namespace, "delete", "vm", "ledger", "plain", "--ignore-not-found")
        cloud.kubectl("delete", "subnet", network(namespace), "--ignore-not-found")
        cloud.kubectl("delete", "vpc", network(namespace), "--ignore-not-found")


def the_example_is_as_it_says(cloud: CloudUnderTest, namespace: str) -> None:
    found = interfaces(cloud, namespace, "ledger")
    assert [*found] == ["default", "back"]
    for name, ip in (("default", f"ledger.{namespace}"), ("back", f"ledger.{namespace}.back.{namespace}.ovn")):
        spec = cloud.get("ip.kubeovn.io", ip)["spec"]
        assert (found[name]["ipAddress"], found[name]["mac"]) == (spec["v4IpAddress"], spec["macAddress"])
    assert found["back"]["ipAddress"] == BACK_ADDRESS
    links = console(
        cloud, namespace, "ledger", "ip -4 -o address; ip -o link; ip route; lsblk -dno NAME,SIZE 2>/dev/null || cat /proc/partitions"
    )
    assert f"{BACK_ADDRESS}/24" in links
    assert f"{found['default']['ipAddress']}/" in links
    assert all(entry["mac"] in links for entry in found.values())
    assert "vdb" in links


def only_who_has_a_card_there_reaches_the_network(cloud: CloudUnderTest, namespace: str) -> None:
    addresses = {name: interfaces(cloud, namespace, name)["default"]["ipAddress"] for name in ("ledger", "plain")}
    assert reaches(cloud, namespace, "plain", addresses["ledger"])
    assert reaches(cloud, namespace, "ledger", addresses["plain"])
    assert not reaches(cloud, namespace, "plain", BACK_ADDRESS)


def a_card_comes_and_goes(cloud: CloudUnderTest, namespace: str) -> None:
    uid = cloud.get("-n", namespace, "vmi", "plain")["metadata"]["uid"]
    ip = f"plain.{namespace}.back.{namespace}.ovn"
    set_second(cloud, namespace, None)
    wait_until(lambda: "back" in interfaces(cloud, namespace, "plain"), "the card to be plugged in")
    address = interfaces(cloud, namespace, "plain")["back"]["ipAddress"]
    assert cloud.get("ip.kubeovn.io", ip)["spec"]["v4IpAddress"] == address
    wait_until(lambda: address in console(cloud, namespace, "plain", "ip -4 -o address show dev eth1"), "the guest to have its address")
    assert console(cloud, namespace, "plain", "ip route").count("default") == 1, "a second network is no way out"
    assert reaches(cloud, namespace, "plain", BACK_ADDRESS)
    assert reaches(cloud, namespace, "ledger", address)
    set_second(cloud, namespace, "down")
    wait_until(lambda: interfaces(cloud, namespace, "plain")["back"]["linkState"] == "down", "the cable to be pulled")
    wait_until(lambda: console(cloud, namespace, "plain", "cat /sys/class/net/eth1/carrier").strip() == "0", "the guest to see it")
    assert not reaches(cloud, namespace, "plain", BACK_ADDRESS)
    set_second(cloud, namespace, "absent")
    wait_until(lambda: "back" not in interfaces(cloud, namespace, "plain"), "the card to be unplugged")
    assert "eth1" not in console(cloud, namespace, "plain", "ls /sys/class/net")
    wait_until(lambda: not cloud.exists("ip.kubeovn.io", ip), "its address to be free")
    machine = cloud.get("-n", namespace, "vm", "plain")
    assert not is_true(machine, "RestartRequired")
    assert cloud.get("-n", namespace, "vmi", "plain")["metadata"]["uid"] == uid, "and all that in one run"
