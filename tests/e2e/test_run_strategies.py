"""What each run strategy does when its guest powers off, crashes, is started and stopped: real machines, driven by the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pilvi.host.cgroups import get_cgroups
from pilvi.host.cloud import get_cloud
from pilvi.providers.names import machine_unit
from tests.e2e.cloud import CloudUnderTest, wait_until
from tests.images.bootsector import boot_disk
from tests.images.registry import FakeRegistry, make_layer, registry_in_thread

MIB = 1 << 20


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        made.add("guests/up", "1", make_layer({"disk/disk.img": boot_disk("the guest is up")}))
        made.add("guests/bye", "1", make_layer({"disk/disk.img": boot_disk("bye", power_off=True)}))
        yield made


class Machine:
    """A machine of a cloud, by its name."""

    def __init__(self, cloud: CloudUnderTest, namespace: str, strategy: str, image: str, **domain: Any) -> None:
        self.cloud, self.namespace, self.name = cloud, namespace, strategy.lower()
        volumes = [{"name": "root", "containerDisk": {"image": image}}]
        spec = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}, **domain}, "terminationGracePeriodSeconds": 0, "volumes": volumes}
        metadata = {"name": self.name, "namespace": namespace}
        vm = {"runStrategy": strategy, "template": {"spec": spec}}
        cloud.apply({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": vm})

    def pilvi(self, *words: str, check: bool = True) -> str:
        """`pilvi vm`, with the machine's name."""
        done = self.cloud.pilvi("vm", *words, f"{self.namespace}/{self.name}", check=check)
        return done.stdout + done.stderr

    def becomes(self, word: str) -> None:
        """Wait until its status is that word."""
        wait_until(lambda: self.get("vm").get("status", {}).get("printableStatus") == word, f"{self.name} to be {word}", interval_s=0.1)

    def ends(self, *, after: str = "") -> str:
        """Wait until a run other than `after` has powered itself off; its UID."""

        def ended() -> str:
            vmi = self.get("vmi")
            uid = str(vmi["metadata"]["uid"])
            return uid if uid != after and vmi.get("status", {}).get("phase") == "Succeeded" else ""

        uid = wait_until(ended, f"a run of {self.name} to end", interval_s=0.1)
        self.becomes("Stopped")
        return uid

    def runs(self, *, after: str = "") -> str:
        """Wait until a run other than `after` is Running; its UID."""

        def running() -> str:
            vmi = self.get("vmi")
            uid = str(vmi["metadata"]["uid"])
            return uid if uid != after and vmi.get("status", {}).get("phase") == "Running" else ""

        return wait_until(running, f"{self.name} to run", interval_s=0.1)

    def crash(self, uid: str) -> None:
        """Kill its process."""
        pid = self.cloud.units()[machine_unit(uid)]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def get(self, kind: str) -> Any:
        """The machine, or its instance."""
        return self.cloud.get("-n", self.namespace, kind, self.name)

    def strategy(self) -> str:
        """The run strategy that its specification names now."""
        return str(self.get("vm")["spec"]["runStrategy"])


def test_manual_does_only_what_it_is_told(cloud: CloudUnderTest, module_namespace: str, registry: FakeRegistry) -> None:
    machine = Machine(cloud, module_namespace, "Manual", f"{registry.host}/guests/bye:1")
    machine.becomes("Stopped")
    assert not cloud.exists("-n", module_namespace, "vmi", machine.name)
    machine.pilvi("start", "--no-wait")
    first = machine.ends()
    machine.pilvi("start", "--no-wait")
    machine.ends(after=first)
    assert machine.strategy() == "Manual"


def test_rerun_on_failure_starts_again_what_has_crashed(cloud: CloudUnderTest, module_namespace: str, registry: FakeRegistry) -> None:
    machine = Machine(cloud, module_namespace, "RerunOnFailure", f"{registry.host}/guests/up:1")
    uid = machine.runs()
    machine.crash(uid)
    machine.runs(after=uid)
    machine.pilvi("stop")
    machine.becomes("Stopped")
    assert "not running" in machine.pilvi("stop", check=False)
    machine.pilvi("start")
    assert machine.strategy() == "RerunOnFailure"


def test_once_is_not_started_twice(cloud: CloudUnderTest, module_namespace: str, registry: FakeRegistry) -> None:
    machine = Machine(cloud, module_namespace, "Once", f"{registry.host}/guests/bye:1")
    machine.ends()
    assert "Once does not support manual start requests" in machine.pilvi("start", check=False)
    machine.pilvi("stop")
    assert machine.strategy() == "Halted"


def test_halted_and_always_turn_into_each_other(cloud: CloudUnderTest, module_namespace: str, registry: FakeRegistry) -> None:
    limits = {"resources": {"limits": {"cpu": "500m"}}}
    machine = Machine(cloud, module_namespace, "Halted", f"{registry.host}/guests/up:1", **limits)
    machine.becomes("Stopped")
    machine.pilvi("start")
    assert machine.strategy() == "Always"
    uid = machine.runs()
    assert 64 * MIB < memory_limit(cloud, uid) < 512 * MIB, "the process has its guest's memory and its own, and no more"
    machine.crash(uid)
    machine.runs(after=uid)
    machine.pilvi("stop")
    assert (machine.strategy(), machine.get("vm")["status"]["printableStatus"]) == ("Halted", "Stopped")


def memory_limit(cloud: CloudUnderTest, uid: str) -> int:
    """What the control group of a machine's process may use, in bytes."""
    path = get_cloud(cloud.home).cgroup(machine_unit(uid))
    folders = [entry.parent for entry in get_cgroups().entries(path)]
    files = [folder / name for folder in folders for name in ("memory.limit_in_bytes", "memory.max")]
    return int(next(file.read_text() for file in files if file.exists()))
