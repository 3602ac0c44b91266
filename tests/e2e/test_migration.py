"""Two virtual hosts on one machine: a guest that moves with its connections, a drain, an engine that dies half-way, a host that fails."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.host.cloud import get_cloud
from pilvi.host.netns import in_netns
from pilvi.kube import load_kubeconfig
from pilvi.providers.names import machine_unit, vpc_netns
from tests.e2e.cloud import CloudUnderTest, is_true, wait_until
from tests.e2e.conftest import cloud_of_its_own
from tests.e2e.guests import console, hang_up, push_guest
from tests.e2e.host import kill_engine
from tests.images.registry import FakeRegistry, registry_in_thread
from tests.virtctl import Virtctl

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-migration.yaml"
NAME, NAMESPACE = "wanderer", "default"
ECHO_PORT = 7000
LONGEST_SILENCE_S = 3.0  # ten times the time that the guest may stand still, on a machine that is busy


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        yield made


@pytest.fixture(scope="module")
def hosts(registry: FakeRegistry) -> Iterator[CloudUnderTest]:
    """A cloud of two hosts with the machine of the example, which has moved once while it booted."""
    with cloud_of_its_own("hosts", "--hosts", "2") as cloud:
        machine, policy, migration = yaml.safe_load_all(EXAMPLE.read_text())
        template = machine["spec"]["template"]["spec"]
        template["domain"]["memory"]["guest"] = "192Mi"
        template["terminationGracePeriodSeconds"] = 5
        template["volumes"][0]["containerDisk"]["image"] = push_guest(registry)
        template["volumes"][1]["cloudInitNoCloud"]["userData"] = f"#cloud-config\nhostname: {NAME}\n"
        cloud.apply([machine, policy, migration])
        wait_until(lambda: cloud.get("vmim", "move-wanderer")["status"]["phase"] == "Succeeded", "the move of the example")
        yield cloud


def instance(cloud: CloudUnderTest) -> dict[str, Any]:
    return dict(cloud.get("vmi", NAME))


def node(cloud: CloudUnderTest) -> str:
    return str(instance(cloud)["status"]["nodeName"])


def processes(cloud: CloudUnderTest) -> list[str]:
    """The units that run the machine: one, or two while it moves."""
    unit = machine_unit(instance(cloud)["metadata"]["uid"])
    return [name for name, pid in cloud.units().items() if name.startswith(unit) and pid is not None]


def migrate(cloud: CloudUnderTest, name: str) -> None:
    metadata = {"name": name, "namespace": NAMESPACE}
    cloud.apply(
        {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration", "metadata": metadata, "spec": {"vmiName": NAME}}
    )


def phase(cloud: CloudUnderTest, name: str) -> str:
    return str(cloud.get("vmim", name).get("status", {}).get("phase"))


def set_bandwidth(cloud: CloudUnderTest, bandwidth: str) -> None:
    cloud.kubectl("patch", "migrationpolicy", "wanderers", "--type=merge", "-p", json.dumps({"spec": {"bandwidthPerMigration": bandwidth}}))


def boot_id(cloud: CloudUnderTest) -> str:
    return console(cloud, NAMESPACE, NAME, "cat /proc/sys/kernel/random/boot_id").strip()


class Pings:
    """Asks a guest from its router every 20 ms, and keeps when it answered."""

    def __init__(self, netns: str, address: str) -> None:
        with in_netns(netns):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.settimeout(0.02)
        self._address = address
        self._ended = threading.Event()
        self.answers: list[float] = []

    @contextmanager
    def going(self) -> Iterator[Pings]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            self._socket.close()

    def longest_silence_s(self) -> float:
        return max(after - before for before, after in zip(self.answers, self.answers[1:], strict=False))

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            number = (number + 1) & 0xFFFF
            head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number)
            total = sum(struct.unpack("!4H", head))
            self._socket.sendto(head[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[4:], (self._address, 0))
            try:
                while self._socket.recv(2048)[20] == 0:  # an echo reply
                    self.answers.append(time.monotonic())
            except TimeoutError:
                continue


async def talk(cloud: CloudUnderTest, ended: asyncio.Event) -> tuple[int, float]:
    """Words over one connection, each answered before the next; how many there were, and the longest wait for an answer."""
    count, longest_s = 0, 0.0
    async with (
        Virtctl.connect(load_kubeconfig(cloud.kubeconfig()), NAMESPACE) as virtctl,
        virtctl.port_forward(NAME, ECHO_PORT) as stream,
    ):
        while not ended.is_set():
            word, since = f"word {count}\n".encode(), time.monotonic()
            await stream.send_bytes(word)
            answer = b""
            while len(answer) < len(word):
                answer += (await stream.receive(30)).data
            assert answer == word
            longest_s = max(longest_s, time.monotonic() - since)
            count += 1
            await asyncio.sleep(0.02)
    return count, longest_s


async def cancel(cloud: CloudUnderTest) -> None:
    async with Virtctl.connect(load_kubeconfig(cloud.kubeconfig()), NAMESPACE) as virtctl:
        await virtctl.migrate_cancel(NAME)


def card(instance: dict[str, Any]) -> dict[str, Any]:
    """What the only interface is whatever the guest says: `ipAddresses` grow when it has found an address of its own (fe80::) free."""
    (interface,) = instance["status"]["interfaces"]
    return {key: value for key, value in interface.items() if key != "ipAddresses"}


def test_a_guest_moves_with_its_address_and_its_connections(hosts: CloudUnderTest) -> None:
    boot, before = boot_id(hosts), instance(hosts)
    assert len(processes(hosts)) == 1
    console(hosts, NAMESPACE, NAME, f"(while :; do nc -l -p {ECHO_PORT} -e cat; done >/dev/null 2>&1 &) ; touch /run/kept")
    address = before["status"]["interfaces"][0]["ipAddress"]
    vpc = hosts.get("vpc", "ovn-cluster")["metadata"]["uid"]

    async def scene() -> tuple[int, float]:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            words = group.create_task(talk(hosts, ended))
            await asyncio.sleep(1)
            await asyncio.to_thread(hosts.pilvi, "vm", "migrate", NAME)
            await asyncio.sleep(1)
            ended.set()
        return words.result()

    with Pings(vpc_netns(get_cloud(hosts.home), vpc), address).going() as pings:
        count, longest_s = asyncio.run(hang_up(scene()))
    after = instance(hosts)
    migration = max(hosts.items("vmim"), key=lambda one: one["metadata"]["creationTimestamp"])
    figures = {name.removeprefix("pilvi.dev/"): value for name, value in migration["metadata"]["annotations"].items()}
    print(f"\n{figures}; {count} words, longest wait {longest_s * 1000:.0f} ms; no ping for {pings.longest_silence_s() * 1000:.0f} ms")  # noqa: T201
    assert after["status"]["nodeName"] != before["status"]["nodeName"]
    assert card(after) == card(before)
    assert after["status"]["migrationState"]["completed"]
    assert count > 20
    assert longest_s < LONGEST_SILENCE_S
    assert pings.longest_silence_s() < LONGEST_SILENCE_S
    assert boot_id(hosts) == boot
    assert console(hosts, NAMESPACE, NAME, "ls /run/kept").strip() == "/run/kept"
    assert len(processes(hosts)) == 1


def test_a_move_that_is_called_off_and_one_whose_engine_dies(hosts: CloudUnderTest) -> None:
    boot, here = boot_id(hosts), node(hosts)
    set_bandwidth(hosts, "8Mi")
    migrate(hosts, "called-off")
    wait_until(lambda: phase(hosts, "called-off") == "Running" and len(processes(hosts)) == 2, "the move to be under way")
    assert hosts.get("vm", NAME)["status"]["printableStatus"] == "Migrating"
    asyncio.run(hang_up(cancel(hosts)))
    wait_until(lambda: not hosts.exists("vmim", "called-off"), "the migration to be called off")
    assert (node(hosts), len(processes(hosts))) == (here, 1)
    assert instance(hosts)["status"]["migrationState"]["abortStatus"] == "Succeeded"
    migrate(hosts, "survivor")
    wait_until(lambda: phase(hosts, "survivor") == "Running", "the next move to be under way")
    kill_engine(hosts, for_good=False)
    wait_until(lambda: phase(hosts, "survivor") == "Succeeded", "the next engine to end it")
    set_bandwidth(hosts, "0")
    assert node(hosts) != here
    wait_until(lambda: len(processes(hosts)) == 1, "one process to be left")
    assert boot_id(hosts) == boot


def test_a_guest_that_stands_still_moves_and_stands_still(hosts: CloudUnderTest) -> None:
    boot, here = boot_id(hosts), node(hosts)
    hosts.pilvi("vm", "pause", NAME)
    wait_until(lambda: is_true(instance(hosts), "Paused"), "the pause to be told")
    hosts.pilvi("vm", "migrate", NAME)
    assert node(hosts) != here
    wait_until(lambda: is_true(instance(hosts), "Paused"), "the guest to stand still over there")
    hosts.pilvi("vm", "unpause", NAME)
    wait_until(lambda: not is_true(instance(hosts), "Paused"), "the guest to go on")
    assert boot_id(hosts) == boot


def test_a_drain_moves_the_machine(hosts: CloudUnderTest) -> None:
    boot, here = boot_id(hosts), node(hosts)
    hosts.kubectl("drain", here, "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout_s=120)
    assert node(hosts) != here
    assert "evacuationNodeName" not in instance(hosts)["status"]
    hosts.kubectl("uncordon", here)
    assert boot_id(hosts) == boot


def test_a_host_that_fails_and_fewer_hosts(hosts: CloudUnderTest) -> None:
    uid, here = instance(hosts)["metadata"]["uid"], node(hosts)
    since = time.monotonic()
    hosts.pilvi("host", "fail", here, "--yes")

    def runs_elsewhere() -> bool:
        found = instance(hosts)
        return found["metadata"]["uid"] != uid and is_true(found, "Ready") and found["status"]["nodeName"] != here

    wait_until(runs_elsewhere, "the machine to run on the other host")
    print(f"\nit runs again {time.monotonic() - since:.1f} s after its host has failed")  # noqa: T201
    rows = {row["name"]: row for row in json.loads(hosts.pilvi("host", "list", "-o", "json").stdout)}
    assert rows[here]["status"] == "Failed"
    assert sum(row["machines"] for row in rows.values()) == 1
    hosts.pilvi("host", "recover", here)
    first = min(rows, key=len)
    if node(hosts) == first:
        hosts.pilvi("vm", "migrate", NAME, "--to", max(rows, key=len))
    hosts.up("--hosts", "1")
    wait_until(lambda: [row["metadata"]["name"] for row in hosts.items("nodes")] == [first], "the second host to go")
    assert node(hosts) == first
    assert len(processes(hosts)) == 1
