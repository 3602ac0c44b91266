"""The cloud's own registry as a user meets it: a disk is pushed, machines and imports pull it by name. Pods do so in test_first_cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cloud import PATIENCE_S, VERSION, CloudUnderTest, is_true, wait_until
from tests.images.bootsector import boot_disk

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-own-image.yaml"


def images(cloud: CloudUnderTest) -> list[str]:
    return [entry["image"] for entry in json.loads(cloud.pilvi("image", "list", "-o", "json").stdout)]


def data_volume(namespace: str, name: str, image: str, size: str) -> dict[str, Any]:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {"source": {"registry": {"url": f"docker://{image}"}}, "storage": {"resources": {"requests": {"storage": size}}}},
    }


def test_what_is_pushed_runs_as_a_machine_and_is_a_volume(cloud: CloudUnderTest, namespace: str, tmp_path: Path) -> None:
    wait_until(lambda: cloud.units().get("registry"), "the registry to run")
    disk = tmp_path / "own.img"
    disk.write_bytes(boot_disk("from the cloud's own registry"))
    own = f"pilvi.dev/{namespace}/hello:v1"
    wait_until(
        lambda: cloud.pilvi("image", "push", str(disk), f"{namespace}/hello:v1", check=False).returncode == 0, "the password to be there"
    )
    assert own in images(cloud)

    manifest = yaml.safe_load(EXAMPLE.read_text())
    manifest["metadata"]["namespace"] = namespace
    template = manifest["spec"]["template"]["spec"]
    template["domain"]["memory"]["guest"] = "64Mi"
    template["terminationGracePeriodSeconds"] = 0
    template["volumes"][0]["containerDisk"]["image"] = own
    cloud.apply([manifest, data_volume(namespace, "imported", own, "16Mi")])

    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "hello-own"), "Ready"), "the machine to be ready")
    uid = cloud.get("-n", namespace, "vmi", "hello-own")["metadata"]["uid"]
    serial = cloud.home / "machines" / uid / "serial.log"
    wait_until(lambda: "from the cloud's own registry" in serial.read_text(), "the guest's word")
    wait_until(lambda: cloud.get("-n", namespace, "dv", "imported")["status"]["phase"] == "Succeeded", "the import")
    cloud.pilvi("image", "delete", f"{namespace}/hello:v1", "--yes")


def test_the_registry_is_started_again_and_lets_in_who_has_the_password(cloud: CloudUnderTest, namespace: str, tmp_path: Path) -> None:
    before = wait_until(lambda: cloud.units().get("registry"), "the registry to run")
    disk = tmp_path / "own.img"
    disk.write_bytes(boot_disk("x"))
    cloud.pilvi("image", "push", str(disk), f"{namespace}/kept:v1")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: cloud.units().get("registry") not in (None, before), "the registry to be started again")
    wait_until(lambda: f"pilvi.dev/{namespace}/kept:v1" in images(cloud), "it to have what it had")

    address = cloud.pilvi("image", "login", str(tmp_path / "login")).stdout.strip()
    config = json.loads((tmp_path / "login/config.json").read_text())["auths"][address]
    url = f"https://{address}/v2/{namespace}/kept"
    curl = [
        "curl",
        "--silent",
        "--noproxy",
        "*",
        "--cacert",
        str(tmp_path / "login/ca.crt"),
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
    ]

    def status(*words: str) -> str:
        return subprocess.run([*curl, *words], capture_output=True, text=True, timeout=30, check=False).stdout

    assert status(f"{url}/tags/list") == "200", "everybody pulls"
    upload = ("--request", "POST", f"{url}/blobs/uploads/")
    assert status(*upload) == "401"
    assert status("--user", f"{config['username']}:wrong", *upload) == "401"
    assert status("--user", f"{config['username']}:{config['password']}", *upload) == "202"

    cloud.pilvi("image", "delete", f"{namespace}/kept:v1", "--yes")
    assert f"pilvi.dev/{namespace}/kept:v1" not in images(cloud)
    refused = cloud.pilvi("image", "delete", f"{namespace}/kept:v1", "--yes", check=False)
    assert (refused.returncode, "pilvi image list" in refused.stderr) == (1, True)
    assert f"DELETE /v2/{namespace}/kept/manifests/v1" in cloud.pilvi("logs", "registry").stdout


@pytest.mark.soak  # a gigabyte, and a whole Debian boots where the processor is emulated
def test_the_disk_of_a_worker_is_a_container_disk_like_any_other(cloud: CloudUnderTest, namespace: str) -> None:
    image = f"pilvi.dev/node:{VERSION}"
    cloud.apply(data_volume(namespace, "node", image, "16Gi"))
    wait_until(lambda: cloud.get("-n", namespace, "dv", "node")["status"]["phase"] == "Succeeded", "the import", timeout_s=2 * PATIENCE_S)
    assert image in images(cloud)
    kernel = {"image": image, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"}
    manifest = yaml.safe_load(EXAMPLE.read_text())
    manifest["metadata"] = {"name": "node", "namespace": namespace}
    template = manifest["spec"]["template"]["spec"]
    template["domain"]["memory"]["guest"] = "512Mi"
    template["domain"]["firmware"] = {"kernelBoot": {"kernelArgs": "root=LABEL=pilvi-node rw console=ttyS0", "container": kernel}}
    template["terminationGracePeriodSeconds"] = 0
    template["volumes"] = [{"name": "root", "dataVolume": {"name": "node"}}]
    cloud.apply(manifest)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "node"), "Ready"), "the machine to be ready", timeout_s=2 * PATIENCE_S)
    uid = cloud.get("-n", namespace, "vmi", "node")["metadata"]["uid"]
    serial = cloud.home / "machines" / uid / "serial.log"
    wait_until(lambda: "Debian GNU/Linux" in serial.read_text(errors="replace"), "systemd to greet", timeout_s=2 * PATIENCE_S)
