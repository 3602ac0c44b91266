"""Virtual machines under QEMU by the manifests that KubeVirt's users write: from a container disk to a guest, and back to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.host import kill_engine
from tests.images.bootsector import boot_disk
from tests.images.registry import FakeRegistry, make_layer, registry_in_thread

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm.yaml"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        made.add("guests/up", "1", make_layer({"disk/disk.img": boot_disk("the guest is up")}))
        made.add("guests/bye", "1", make_layer({"disk/disk.img": boot_disk("bye", power_off=True)}))
        yield made


def machine(namespace: str, image: str, strategy: str = "Always", **spec: Any) -> dict[str, Any]:
    """The machine of examples/vm.yaml with another image, in less memory, that waits for nobody at its end."""
    manifest: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"]["runStrategy"] = strategy
    template = manifest["spec"]["template"]["spec"]
    template["domain"]["memory"]["guest"] = "64Mi"
    template["terminationGracePeriodSeconds"] = 0
    template["volumes"][0]["containerDisk"]["image"] = image
    template.update(spec)
    return manifest


def printed(cloud: CloudUnderTest, namespace: str) -> str:
    return str(cloud.get("-n", namespace, "vm", "hello").get("status", {}).get("printableStatus"))


def test_from_a_container_disk_to_a_guest_and_back_to_nothing(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    cloud.apply(machine(namespace, f"{registry.host}/guests/up:1"))
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "hello"), "Ready"), "the machine to be ready")
    vmi = cloud.get("-n", namespace, "vmi", "hello")
    assert find_condition(vmi, "pilvi.dev/Fidelity")["reason"] in ("Kvm", "Tcg")
    assert vmi["status"]["interfaces"][0]["ipAddress"]
    folder = cloud.home / "machines" / vmi["metadata"]["uid"]
    wait_until(lambda: "the guest is up" in (folder / "serial.log").read_text(), "the guest's word")
    (pod,) = cloud.items("-n", namespace, "pods")
    assert pod["status"]["phase"] == "Running"
    unit = next(name for name in cloud.units() if name.startswith("m-") and cloud.units()[name])
    pid = cloud.units()[unit]
    kill_engine(cloud, for_good=False)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmi", "hello"), "Ready"), "the next engine")
    assert cloud.units()[unit] == pid, "the guest has not noticed"
    patch = '{"spec":{"runStrategy":"Halted"}}'
    cloud.kubectl("-n", namespace, "patch", "vm", "hello", "--type=merge", "-p", patch)
    wait_until(lambda: printed(cloud, namespace) == "Stopped", "the machine to stop")
    assert not folder.exists()
    cloud.kubectl("-n", namespace, "delete", "vm", "hello")


def test_a_guest_that_powers_off_ends_as_its_strategy_says(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    cloud.apply(machine(namespace, f"{registry.host}/guests/bye:1", "Once"))
    wait_until(lambda: printed(cloud, namespace) == "Stopped", "the machine to end")
    assert cloud.get("-n", namespace, "vmi", "hello")["status"]["phase"] == "Succeeded"
    cloud.kubectl("-n", namespace, "delete", "vm", "hello")
    cloud.apply(machine(namespace, f"{registry.host}/guests/bye:1", "Always"))
    first = wait_until(lambda: cloud.items("-n", namespace, "vmi"), "a first run")[0]["metadata"]["uid"]

    def another() -> bool:
        return any(vmi["metadata"]["uid"] != first for vmi in cloud.items("-n", namespace, "vmi"))

    wait_until(another, "another run")


def test_an_image_that_is_not_there_says_so_and_is_tried_again(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    cloud.apply(machine(namespace, f"{registry.host}/guests/later:1"))
    wait_until(lambda: printed(cloud, namespace) in ("ErrImagePull", "ImagePullBackOff"), "the failed pull")
    refusal = find_condition(cloud.get("-n", namespace, "vmi", "hello"), "Synchronized")
    assert "guests/later:1" in refusal["message"]
    registry.add("guests/later", "1", make_layer({"disk/disk.img": boot_disk("late")}))
    wait_until(lambda: printed(cloud, namespace) == "Running", "the next try")


def test_a_disk_that_outlives_its_machine(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    disk = {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": "root", "namespace": namespace},
        "spec": {
            "source": {"registry": {"url": f"docker://{registry.host}/guests/up:1"}},
            "storage": {"resources": {"requests": {"storage": "16Mi"}}},
        },
    }
    manifest = machine(namespace, "unused")
    manifest["spec"]["template"]["spec"]["volumes"][0] = {"name": "root", "dataVolume": {"name": "root"}}
    cloud.apply(manifest)
    wait_until(lambda: printed(cloud, namespace) == "ErrorPvcNotFound", "the missing disk to be named")
    cloud.apply(disk)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "hello"), "Ready"), "the machine to run from its disk")
    uid = cloud.get("-n", namespace, "vmi", "hello")["metadata"]["uid"]
    wait_until(lambda: "the guest is up" in (cloud.home / "machines" / uid / "serial.log").read_text(), "the guest's word")
    cloud.kubectl("-n", namespace, "delete", "vm", "hello")
    assert cloud.get("-n", namespace, "pvc", "root")["status"]["phase"] == "Bound"
    cloud.apply(manifest)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "hello"), "Ready"), "another machine to run from it")
    cloud.kubectl("-n", namespace, "delete", "vm", "hello")
    cloud.kubectl("-n", namespace, "delete", "datavolume", "root")
    wait_until(lambda: not cloud.exists("-n", namespace, "pvc", "root"), "its claim to go")
