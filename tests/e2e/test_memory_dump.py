"""A machine's memory in a claim, by virtctl's requests: written while it runs, read on the host, and the claim let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pilvi.kube import load_kubeconfig
from tests.e2e.cloud import CloudUnderTest, is_true, wait_until
from tests.e2e.host import kill_engine
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, registry_in_thread
from tests.virtctl import Virtctl, VirtctlError

NAME, CLAIM = "mindful", "memory"
WORD = "what the guest has in mind"


def machine(namespace: str, image: str) -> dict[str, Any]:
    disks = [{"name": "root", "disk": {"bus": "virtio"}}]
    spec = {
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": disks}},
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "root", "containerDisk": {"image": image}}],
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {"runStrategy": "Always", "template": {"spec": spec}},
    }


def claim(namespace: str, name: str, size: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_the_memory_is_in_the_claim_and_the_guest_goes_on(cloud: CloudUnderTest, namespace: str) -> None:
    def virtctl(call: Callable[[Virtctl], Awaitable[None]]) -> None:
        async def act() -> None:
            async with Virtctl.connect(load_kubeconfig(cloud.kubeconfig()), namespace) as connected:
                await call(connected)

        asyncio.run(act())

    def request() -> dict[str, Any]:
        return cloud.get("-n", namespace, "vm", NAME)["status"].get("memoryDumpRequest") or {}

    def attachments() -> list[Any]:
        return cloud.items("-n", namespace, "pods", "-l", "kubevirt.io=hotplug-disk")

    with registry_in_thread() as registry:
        image = registry.add("guests/mindful", "1", make_layer({"disk/disk.img": boot_disk(WORD)}))
        cloud.apply(machine(namespace, image))
        wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", NAME), "Ready"), "the machine to run")
    cloud.apply([claim(namespace, CLAIM, "164Mi"), claim(namespace, "small", "64Mi")])
    with pytest.raises(VirtctlError, match=r"pvc size \[64Mi\] should be bigger then \[164Mi\]"):
        virtctl(lambda user: user.memory_dump(NAME, "small"))
    pid = next(pid for unit, pid in cloud.units().items() if unit.startswith("m-") and pid)

    virtctl(lambda user: user.memory_dump(NAME, CLAIM))
    kill_engine(cloud, for_good=False)
    wait_until(lambda: request().get("phase") == "Completed", "the next engine to have the memory written")
    wait_until(lambda: attachments() == [], "the claim to be let go")
    told = cloud.get("-n", namespace, "pvc", CLAIM)
    assert told["metadata"]["annotations"]["kubevirt.io/memory-dump"] == request()["fileName"]
    volume = cloud.get("pv", told["spec"]["volumeName"])["metadata"]["annotations"]["pilvi.dev/volume"]
    written = (cloud.home / "volumes" / volume / "disk.img").read_bytes()
    assert written.startswith(b"\x7fELF")
    assert WORD.encode() in written
    vm = cloud.get("-n", namespace, "vm", NAME)
    assert is_true(vm, "Ready")
    assert not is_true(vm, "RestartRequired")
    assert pid in cloud.units().values(), "the guest has not noticed"

    virtctl(lambda user: user.remove_memory_dump(NAME))
    wait_until(lambda: request() == {}, "the association to end")
    names = [each["name"] for each in cloud.get("-n", namespace, "vm", NAME)["spec"]["template"]["spec"]["volumes"]]
    assert names == ["root"]
    cloud.kubectl("-n", namespace, "delete", "vm", NAME)
    cloud.kubectl("-n", namespace, "delete", "pvc", CLAIM, "small")
