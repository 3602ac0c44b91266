"""Disks, processors and memory that come to a guest while it runs, and disks that go: examples/vm-hotplug.yaml with the suite's guest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.kube import load_kubeconfig
from pilvi.lib.quantity import quantity_bytes
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.guests import console, push_guest
from tests.e2e.host import kill_engine
from tests.images.registry import FakeRegistry, registry_in_thread
from tests.virtctl import Virtctl

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-hotplug.yaml"
NAME = "growing"
MIB = 1 << 20


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        yield made


class Machine:
    """The machine of the example, as a user sees it."""

    def __init__(self, cloud: CloudUnderTest, namespace: str) -> None:
        self.cloud, self.namespace = cloud, namespace

    def apply(self, image: str) -> None:
        for manifest in yaml.safe_load_all(EXAMPLE.read_text()):
            manifest["metadata"]["namespace"] = self.namespace
            if manifest["kind"] == "DataVolume":
                manifest["spec"]["storage"]["resources"]["requests"]["storage"] = "32Mi"
            else:
                spec = manifest["spec"]["template"]["spec"]
                spec["domain"]["memory"] = {"guest": "256Mi", "maxGuest": "512Mi"}
                spec["terminationGracePeriodSeconds"] = 5
                spec["volumes"][0]["containerDisk"]["image"] = image
            self.cloud.apply(manifest)

    def get(self, kind: str = "vmi") -> Any:
        return self.cloud.get("-n", self.namespace, kind, NAME)

    def patch(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        self.cloud.kubectl("-n", self.namespace, "patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def change(self, **spec: Any) -> None:
        self.patch("vm", NAME, {"template": {"spec": spec}})

    def run(self, command: str) -> str:
        return console(self.cloud, self.namespace, NAME, command).strip()

    def virtctl(self, call: Callable[[Virtctl], Awaitable[None]]) -> None:
        async def act() -> None:
            async with Virtctl.connect(load_kubeconfig(self.cloud.kubeconfig()), self.namespace) as virtctl:
                await call(virtctl)

        asyncio.run(act())

    def volume(self, name: str) -> dict[str, Any]:
        return next((entry for entry in self.get()["status"].get("volumeStatus") or [] if entry["name"] == name), {})

    def attachments(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.cloud.items("-n", self.namespace, "pods", "-l", "kubevirt.io=hotplug-disk")]

    def restart_required(self) -> str:
        return str((find_condition(self.get("vm"), "RestartRequired") or {}).get("message", ""))


def test_a_machine_that_grows_while_it_runs(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    machine = Machine(cloud, namespace)
    machine.apply(push_guest(registry))
    wait_until(lambda: is_true(machine.get("vm"), "Ready"), "the machine to run")
    assert machine.run("nproc; blockdev --getsize64 /dev/vdb") == f"1\n{32 * MIB}"
    vmi = machine.get()
    assert (machine.volume("data")["phase"], machine.volume("data")["target"], len(machine.attachments())) == ("Ready", "vdb", 1)
    pid = next(pid for unit, pid in cloud.units().items() if unit.startswith("m-") and pid)

    # A disk more, written to, and grown.
    machine.virtctl(lambda virtctl: virtctl.add_volume(NAME, "extra", persist=True))
    wait_until(lambda: machine.volume("extra").get("phase") == "Ready", "the disk to be attached")
    log = cloud.home / "machines" / vmi["metadata"]["uid"] / "serial.log"
    wait_until(lambda: "guest disk sda added" in log.read_text(errors="replace"), "the guest to see it")
    assert machine.run("echo kept >/dev/sda; sync; head -c 4 /dev/sda") == "kept"
    machine.patch("pvc", "extra", {"resources": {"requests": {"storage": "48Mi"}}})
    wait_until(lambda: machine.volume("extra").get("size") == 48 * MIB, "the growth to be seen")
    assert machine.volume("extra")["persistentVolumeClaimInfo"]["capacity"] == {"storage": "48Mi"}
    wait_until(lambda: machine.run("blockdev --getsize64 /dev/sda") == str(48 * MIB), "the guest to see that it has grown")

    # It goes, and comes again with what was written, whatever becomes of the engine.
    machine.virtctl(lambda virtctl: virtctl.remove_volume(NAME, "extra", persist=True))
    wait_until(lambda: not machine.volume("extra") and len(machine.attachments()) == 1, "the disk to be gone")
    assert machine.run("ls /dev/sda 2>/dev/null") == ""
    machine.virtctl(lambda virtctl: virtctl.add_volume(NAME, "extra", bus="virtio", claim=True))
    kill_engine(cloud, for_good=False)
    wait_until(lambda: machine.volume("extra").get("phase") == "Ready", "the next engine to have attached it")
    assert machine.run("head -c 4 /dev/vdd; ls /dev/vd? | wc -l") == "kept4"

    # Processors and memory.
    machine.change(domain={"cpu": {"sockets": 3}, "memory": {"guest": "448Mi"}})
    wait_until(lambda: machine.get()["status"]["memory"]["guestCurrent"] == "448Mi", "the guest to have taken the memory")
    wait_until(lambda: machine.run("nproc") == "3", "the guest to use its processors")
    assert int(machine.run("awk '/MemTotal/ {print $2}' /proc/meminfo")) > 300 * 1024
    assert machine.get()["status"]["currentCPUTopology"]["sockets"] == 3
    wait_until(lambda: find_condition(machine.get(), "HotMemoryChange") is None, "the change to be over")
    (pod,) = cloud.items("-n", namespace, "pods", "-l", "kubevirt.io=virt-launcher")
    assert pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "300m"
    assert machine.restart_required() == ""

    # A virtio disk goes when the guest has heard of it, and memory as far as the guest gives it back.
    machine.virtctl(lambda virtctl: virtctl.remove_volume(NAME, "extra"))
    wait_until(lambda: not machine.volume("extra") and len(machine.attachments()) == 1, "the virtio disk to be gone")
    assert machine.run("ls /dev/vdd 2>/dev/null") == ""
    machine.change(domain={"memory": {"guest": "256Mi"}})
    wait_until(lambda: quantity_bytes(machine.get()["status"]["memory"]["guestCurrent"]) < 448 * MIB, "the guest to give some back")

    # What cannot change is named, and no longer when it is taken back.
    machine.change(hostname="other")
    wait_until(lambda: "spec.template.spec.hostname" in machine.restart_required(), "the field to be named")
    machine.change(hostname=None)
    wait_until(lambda: machine.restart_required() == "", "nothing to be said any more")
    assert pid in cloud.units().values(), "the guest has not noticed"
    cloud.kubectl("-n", namespace, "delete", "vm", NAME)
    wait_until(lambda: machine.attachments() == [], "its Pods to go")
    cloud.kubectl("-n", namespace, "delete", "datavolume", "extra", "data")
