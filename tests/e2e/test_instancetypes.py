"""Sizes by name, as the example has them, and sets of equal machines, on a real cloud under QEMU."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.host.qemu.tracking import promised_bytes
from pilvi.providers.names import machine_unit
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, registry_in_thread

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-instancetype.yaml"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with registry_in_thread() as registry:
        registry.add("guests/up", "1", make_layer({"disk/disk.img": boot_disk("the guest is up")}))
        yield f"{registry.host}/guests/up:1"


def machine(namespace: str, image: str, **matchers: Any) -> dict[str, Any]:
    """The machine of the example with another image, that waits for nobody at its end."""
    manifest: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"] |= matchers
    template = manifest["spec"]["template"]["spec"]
    template["terminationGracePeriodSeconds"] = 0
    template["volumes"][0]["containerDisk"]["image"] = image
    return manifest


def tiny(namespace: str, memory: str, vcpus: int) -> dict[str, Any]:
    return {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineInstancetype",
        "metadata": {"name": "tiny", "namespace": namespace},
        "spec": {"cpu": {"guest": vcpus}, "memory": {"guest": memory}},
    }


def processes(cloud: CloudUnderTest, namespace: str) -> dict[int, str]:
    """Pids of QEMU of the namespace's instances, and the words that each was started with."""
    units = cloud.units()
    pids = [units.get(machine_unit(vmi["metadata"]["uid"])) for vmi in cloud.items("-n", namespace, "vmi")]
    return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids if pid}


def words_of(cloud: CloudUnderTest, namespace: str) -> str:
    """How QEMU was started for the machine, once it is ready."""
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmi", "sized"), "Ready"), "the instance to be ready")
    (words,) = processes(cloud, namespace).values()
    return words


def memory_mib(words: str) -> int:
    """What the guest was promised; it may have some pages more (`pilvi.host.qemu.tracking`)."""
    found = re.search(r"-m size=(\d+)b", words)
    assert found is not None
    ram = int(found[1])
    assert ram - promised_bytes(ram) in (0, 2 * 4096)
    return promised_bytes(ram) >> 20


def uid_of(cloud: CloudUnderTest, namespace: str) -> str:
    return str(cloud.get("-n", namespace, "vmi", "sized")["metadata"]["uid"])


def restart(cloud: CloudUnderTest, namespace: str) -> None:
    before = uid_of(cloud, namespace)
    cloud.pilvi("vm", "restart", "sized", "-n", namespace)
    wait_until(lambda: cloud.exists("-n", namespace, "vmi", "sized") and uid_of(cloud, namespace) != before, "the next run")


def test_a_machine_has_the_size_that_its_instancetype_had(cloud: CloudUnderTest, namespace: str, image: str) -> None:
    named = {"instancetype": {"kind": "VirtualMachineInstancetype", "name": "tiny"}, "preference": {"name": "linux"}}
    small = machine(namespace, image, **named)
    cloud.apply(small)
    wait_until(lambda: find_condition(cloud.get("-n", namespace, "vm", "sized"), "Failure"), "the missing instancetype to be named")
    cloud.apply(tiny(namespace, "160Mi", 2))
    words = words_of(cloud, namespace)
    assert memory_mib(words) == 160
    assert "-smp cpus=2," in words
    vmi = cloud.get("-n", namespace, "vmi", "sized")
    assert all(disk["disk"]["bus"] == "virtio" for disk in vmi["spec"]["domain"]["devices"]["disks"]), "as the preference likes it"
    twice = machine(namespace, image, **named)
    twice["metadata"]["name"] = "twice"
    twice["spec"]["template"]["spec"]["domain"]["memory"] = {"guest": "64Mi"}
    refusal = cloud.refused(twice)
    assert "spec.template.spec.domain.memory.guest conflicts with selected instance type" in refusal

    cloud.apply(tiny(namespace, "192Mi", 1))
    restart(cloud, namespace)
    assert "-smp cpus=2," in words_of(cloud, namespace), "an edit changes no machine"
    clear = '[{"op":"remove","path":"/status/instancetypeRef"}]'
    cloud.kubectl("-n", namespace, "patch", "vm", "sized", "--subresource=status", "--type=json", "-p", clear)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "sized"), "RestartRequired"), "the word on what is new")
    restart(cloud, namespace)
    words = words_of(cloud, namespace)
    assert (memory_mib(words), "-smp cpus=1," in words) == (192, True)
    cloud.kubectl("-n", namespace, "delete", "vm", "sized")
    wait_until(lambda: not cloud.items("-n", namespace, "controllerrevisions"), "the copies to go with the machine")


def test_the_example_with_what_every_cloud_has(cloud: CloudUnderTest, namespace: str, image: str) -> None:
    cloud.apply(machine(namespace, image, instancetype={"name": "u1.nano"}))
    assert memory_mib(words_of(cloud, namespace)) == 512
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "sized"), "Ready"), "the machine to be ready")
    cloud.kubectl("-n", namespace, "delete", "vm", "sized")


def test_a_set_of_equal_machines(cloud: CloudUnderTest, namespace: str, image: str) -> None:
    template = machine(namespace, image)["spec"]["template"]
    template["spec"]["domain"]["memory"] = {"guest": "64Mi"}
    del template["spec"]["volumes"][1:]
    cloud.apply(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceReplicaSet",
            "metadata": {"name": "twins", "namespace": namespace},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "sized"}}, "template": template},
        }
    )

    def ready() -> int:
        return int(cloud.get("-n", namespace, "vmirs", "twins").get("status", {}).get("readyReplicas", 0))

    def names() -> set[str]:
        return {vmi["metadata"]["name"] for vmi in cloud.items("-n", namespace, "vmi")}

    wait_until(lambda: ready() == 2, "both to be ready")
    before, killed = names(), next(iter(processes(cloud, namespace)))
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: ready() == 2 and len(names()) == 2 and names() != before, "another in the place of the one that died")
    assert len(names() & before) == 1
    cloud.kubectl("-n", namespace, "scale", "vmirs/twins", "--replicas=1")
    wait_until(lambda: len(names()) == 1 and ready() == 1, "one to go")
    cloud.kubectl("-n", namespace, "delete", "vmirs", "twins")
    wait_until(lambda: not names(), "the last one to go")
