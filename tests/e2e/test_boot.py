"""What a machine boots with: a kernel of an image without any disk, UEFI with secure boot, a TPM, and what of it is remembered."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.host.cloud import get_cloud
from pilvi.providers.kubevirt.machines.qemu.domain import sockets_of
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.guests import guest_image
from tests.images.registry import FakeRegistry, registry_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"
READY = "guest ready"
# Has the guest tell whether it sees a TPM, and whether a variable of the boot before is there.
LOOK = """\

modprobe efivarfs
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
variable=/sys/firmware/efi/efivars/Pilvi-6a1f0000-1111-2222-3333-444444444444
echo "seen: $(ls /dev/tpm0), variable $([ -e $variable ] && echo kept || echo new)"
printf '\\007\\000\\000\\000x' >$variable
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        push(made, "guests/kernel", guest_image().kernel_container)
        push(made, "guests/disk", guest_image().container_disk)
        yield made


def push(registry: FakeRegistry, name: str, layout: Path) -> None:
    """Put the image of an OCI layout into the registry, with tag 1."""

    def blob(descriptor: dict[str, Any]) -> bytes:
        return (layout / "blobs/sha256" / str(descriptor["digest"]).removeprefix("sha256:")).read_bytes()

    manifest = json.loads(blob(json.loads((layout / "index.json").read_bytes())["manifests"][0]))
    registry.add(name, "1", *(blob(layer) for layer in manifest["layers"]))


def example(name: str, namespace: str, memory: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An example's manifest in this namespace, with less memory and no grace, and the specification of its instance."""
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    manifest["metadata"]["namespace"] = namespace
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    spec["domain"]["memory"]["guest"] = memory
    spec["terminationGracePeriodSeconds"] = 0
    return manifest, spec


def serial(cloud: CloudUnderTest, namespace: str, name: str) -> str:
    uid = cloud.get("-n", namespace, "vmi", name)["metadata"]["uid"]
    return (cloud.home / "machines" / uid / "serial.log").read_text(errors="replace")


def look(cloud: CloudUnderTest, namespace: str, name: str) -> None:
    """Type LOOK into the shell on the guest's serial console, once it is there."""
    wait_until(lambda: "root@" in serial(cloud, namespace, name), "the guest's shell")
    uid = cloud.get("-n", namespace, "vmi", name)["metadata"]["uid"]
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(sockets_of(get_cloud(cloud.home), uid).serial))
        for command in LOOK.splitlines():
            line.sendall(f"{command}\n".encode())
            time.sleep(0.5)  # a serial line takes no more at once than its shell reads


def printed(cloud: CloudUnderTest, namespace: str, name: str) -> str:
    return str(cloud.get("-n", namespace, "vm", name).get("status", {}).get("printableStatus"))


def test_a_kernel_of_an_image_and_no_disk(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    manifest, spec = example("vm-kernel-boot.yaml", namespace, "256Mi")
    boot = spec["domain"]["firmware"]["kernelBoot"]
    boot["container"] |= {"image": f"{registry.host}/guests/kernel:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/nowhere"}
    cloud.apply(manifest)
    wait_until(lambda: printed(cloud, namespace, "direct") in ("ErrImagePull", "ImagePullBackOff"), "the path that is not there")
    assert "no file /boot/nowhere" in find_condition(cloud.get("-n", namespace, "vmi", "direct"), "Synchronized")["message"]
    cloud.kubectl("-n", namespace, "delete", "vm", "direct")
    boot["container"]["initrdPath"] = "/boot/initrd"
    cloud.apply(manifest)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "direct"), "Ready"), "the machine to be ready")
    wait_until(lambda: READY in serial(cloud, namespace, "direct"), "the guest to be up")
    status = cloud.get("-n", namespace, "vmi", "direct")["status"]
    assert status["machine"]["type"].startswith("pc-q35-")
    assert "volumeStatus" not in status or status["volumeStatus"] == []
    cloud.kubectl("-n", namespace, "delete", "vm", "direct")


def test_uefi_remembers_and_a_tpm_is_there(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    manifest, spec = example("vm-uefi.yaml", namespace, "512Mi")
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    volumes["root"]["containerDisk"]["image"] = f"{registry.host}/guests/disk:1"
    cloud.apply(manifest)
    look(cloud, namespace, "secure")
    wait_until(lambda: "seen: /dev/tpm0, variable new" in serial(cloud, namespace, "secure"), "the first boot")
    kept = cloud.home / "kept" / cloud.get("-n", namespace, "vm", "secure")["metadata"]["uid"]
    assert sorted(path.name for path in kept.iterdir()) == ["tpm", "uefi-variables.fd"]
    assert any(name.endswith("-tpm") for name in cloud.units())
    for strategy, word in (("Halted", "Stopped"), ("Always", "Running")):
        cloud.kubectl("-n", namespace, "patch", "vm", "secure", "--type=merge", "-p", json.dumps({"spec": {"runStrategy": strategy}}))
        wait_until(lambda word=word: printed(cloud, namespace, "secure") == word, f"the machine to be {word}")  # type: ignore[misc]
    look(cloud, namespace, "secure")
    wait_until(lambda: "seen: /dev/tpm0, variable kept" in serial(cloud, namespace, "secure"), "the second boot")
    cloud.kubectl("-n", namespace, "patch", "vm", "secure", "--type=merge", "-p", json.dumps({"spec": {"runStrategy": "Halted"}}))
    wait_until(lambda: printed(cloud, namespace, "secure") == "Stopped", "the machine to be stopped")
    bring_back(cloud, namespace, "secure", "again")
    again = cloud.home / "kept" / cloud.get("-n", namespace, "vm", "again")["metadata"]["uid"]
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {path.name: path.read_bytes() for path in kept.iterdir()}
    cloud.kubectl("-n", namespace, "delete", "vm", "secure", "again")
    assert not kept.exists()
    assert not again.exists()
    cloud.kubectl("-n", namespace, "delete", "vmsnapshot", "whole")
    wait_until(lambda: not (cloud.home / "kept").exists(), "the copy to go with its snapshot")


def bring_back(cloud: CloudUnderTest, namespace: str, name: str, target: str) -> None:
    """A second machine that is as the first one is now."""
    metadata = {"name": "whole", "namespace": namespace}

    def of(machine: str) -> dict[str, str]:
        return {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": machine}

    api = "snapshot.kubevirt.io/v1beta1"
    cloud.apply({"apiVersion": api, "kind": "VirtualMachineSnapshot", "metadata": metadata, "spec": {"source": of(name)}})
    spec = {"target": of(target), "virtualMachineSnapshotName": "whole"}
    cloud.apply({"apiVersion": api, "kind": "VirtualMachineRestore", "metadata": metadata, "spec": spec})
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmrestore", "whole"), "Ready"), "the restore")
