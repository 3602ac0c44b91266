"""Disks that are made for a machine, and discs of files that its guest reads, by the manifests that a user writes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.kube import load_kubeconfig
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.guests import console, guest_machine, push_guest
from tests.e2e.host import kill_engine
from tests.http_server import HttpServer, http_server_in_thread
from tests.image_upload import image_upload
from tests.images.bootsector import boot_disk
from tests.images.registry import FakeRegistry, make_layer, registry_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"
MIB = 1 << 20
# It boots, and is large enough to break off in the middle.
DISK = boot_disk("from the cloud image") + os.urandom(7 * MIB)


@pytest.fixture(scope="module")
def web() -> Iterator[HttpServer]:
    with http_server_in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        yield made


def example(name: str, namespace: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    return manifest


def small(storage: dict[str, Any]) -> None:
    storage["resources"]["requests"]["storage"] = "16Mi"


def data_volume(namespace: str, name: str, size: str = "16Mi", **source: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": source, "storage": {"resources": {"requests": {"storage": size}}}},
    }


def disk_of(cloud: CloudUnderTest, namespace: str, claim: str) -> bytes:
    uid = cloud.get("-n", namespace, "pvc", claim)["metadata"]["uid"]
    return (cloud.home / "volumes" / f"pvc-{uid}" / "disk.img").read_bytes()


def phase(cloud: CloudUnderTest, namespace: str, name: str) -> str:
    return str(cloud.get("-n", namespace, "dv", name).get("status", {}).get("phase"))


def machine_from_web(namespace: str, url: str) -> dict[str, Any]:
    """examples/vm-datavolume.yaml with another image, in less memory, that waits for nobody at its end."""
    manifest = example("vm-datavolume", namespace)
    (template,) = manifest["spec"]["dataVolumeTemplates"]
    template["spec"]["source"]["http"]["url"] = url
    small(template["spec"]["storage"])
    guest = manifest["spec"]["template"]["spec"]
    guest["domain"]["memory"]["guest"] = "64Mi"
    guest["terminationGracePeriodSeconds"] = 0
    return manifest


def test_a_machine_from_a_cloud_image_of_a_server_that_breaks_off(cloud: CloudUnderTest, namespace: str, web: HttpServer) -> None:
    web.files["/debian.qcow2"] = DISK
    web.break_after, web.breaks = 3 * MIB, 1
    cloud.apply(machine_from_web(namespace, web.url("/debian.qcow2")))

    def word() -> str:
        return str(cloud.get("-n", namespace, "vm", "debian").get("status", {}).get("printableStatus"))

    wait_until(lambda: word() in ("Provisioning", "DataVolumeError"), "the machine to say that its disk is made", interval_s=0.1)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vm", "debian"), "Ready"), "the machine to run from its disk")
    assert cloud.get("-n", namespace, "dv", "debian-root")["status"]["restartCount"] == 1
    asked = [headers.get("Range") for _, path, headers in web.requests if path == "/debian.qcow2"]
    assert asked == [None, f"bytes={3 * MIB}-"], "it goes on where it was"
    assert disk_of(cloud, namespace, "debian-root") == DISK + bytes(8 * MIB)
    uid = cloud.get("-n", namespace, "vmi", "debian")["metadata"]["uid"]
    wait_until(lambda: "from the cloud image" in (cloud.home / "machines" / uid / "serial.log").read_text(), "the guest's word")
    owner = cloud.get("-n", namespace, "dv", "debian-root")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("VirtualMachine", "debian")
    cloud.kubectl("-n", namespace, "delete", "vm", "debian")
    wait_until(lambda: not cloud.exists("-n", namespace, "dv,pvc"), "its disk to go with it")


def test_an_import_goes_on_when_the_engine_was_killed(cloud: CloudUnderTest, namespace: str, web: HttpServer) -> None:
    web.files["/slow"] = DISK
    web.pause_s = 0.05
    try:
        cloud.apply(data_volume(namespace, "slow", http={"url": web.url("/slow")}))
        before = web.sent
        wait_until(lambda: web.sent - before > 3 * MIB, "half of the image", interval_s=0.05)
        kill_engine(cloud, for_good=False)
        web.pause_s = 0.0
        wait_until(lambda: phase(cloud, namespace, "slow") == "Succeeded", "the import to end")
    finally:
        web.pause_s = 0.0
    assert disk_of(cloud, namespace, "slow")[: len(DISK)] == DISK


def test_images_that_can_never_be_used_say_why(cloud: CloudUnderTest, namespace: str, web: HttpServer, tmp_path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", tmp_path / "q", "4M"], check=True)
    web.files |= {"/good": DISK, "/backed": (tmp_path / "q").read_bytes(), "/page": b"<html>not found</html>"}
    wrong = f"sha256:{'0' * 64}"
    words = {
        "backed": "needs another file",
        "large": "ask for at least 8Mi",
        "page": "which is no disk",
        "checked": f"not {wrong}",
    }
    cloud.apply(
        [
            data_volume(namespace, "backed", http={"url": web.url("/backed")}),
            data_volume(namespace, "large", "4Mi", http={"url": web.url("/good")}),
            data_volume(namespace, "page", http={"url": web.url("/page")}),
            data_volume(namespace, "checked", http={"url": web.url("/good"), "checksum": wrong}),
        ]
    )
    for name, said in words.items():
        wait_until(lambda name=name: phase(cloud, namespace, name) == "Failed", f"{name} to fail")  # type: ignore[misc]
        assert said in find_condition(cloud.get("-n", namespace, "dv", name), "Ready")["message"]
        assert not any(disk_of(cloud, namespace, name)), "nothing half-made stays"
    wait_until(lambda: not any((cloud.home / "imports").iterdir()), "nothing on the way to stay")


def test_upload_as_virtctl_does_it(cloud: CloudUnderTest, namespace: str, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    (tmp_path / "raw").write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", image], check=True)
    path = asyncio.run(image_upload(load_kubeconfig(cloud.kubeconfig()), namespace, "sent", "16Mi", image))
    assert path == "/v1beta1/upload-async"
    assert disk_of(cloud, namespace, "sent") == DISK + bytes(8 * MIB)
    # Without virtctl: the token by kubectl, the image by whatever speaks HTTP.
    cloud.apply(data_volume(namespace, "by-hand", upload={}))
    wait_until(lambda: phase(cloud, namespace, "by-hand") == "UploadReady", "the upload to be awaited")
    asked = {
        "apiVersion": "upload.cdi.kubevirt.io/v1beta1",
        "kind": "UploadTokenRequest",
        "metadata": {"name": "t", "namespace": namespace},
    }
    wanted = {**asked, "spec": {"pvcName": "by-hand"}}
    token = cloud.kubectl("create", "-f", "-", "-o", "jsonpath={.status.token}", manifest=wanted)
    address = cloud.get("cdiconfig", "config")["status"]["uploadProxyURL"]
    context = ssl.create_default_context(cadata=cloud.get("cdiconfig", "config")["status"]["uploadProxyCA"])
    request = urllib.request.Request(f"{address}/v1beta1/upload", image.read_bytes(), {"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, context=context, timeout=60) as response:  # noqa: S310
        assert response.status == 200
    wait_until(lambda: phase(cloud, namespace, "by-hand") == "Succeeded", "the disk")
    assert disk_of(cloud, namespace, "by-hand") == DISK + bytes(8 * MIB)


def test_a_data_source_on_the_newest_image(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    image = registry.add("containerdisks/debian", "12", make_layer({"disk/disk.img": DISK}))
    cron = example("dataimportcron", namespace)
    cron["spec"]["template"]["spec"]["source"]["registry"]["url"] = f"docker://{image}"
    registry.break_after, registry.breaks = 3 * MIB, 1  # a registry that dies half-way
    small(cron["spec"]["template"]["spec"]["storage"])
    cloud.apply(cron)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "dataimportcron", "debian"), "UpToDate"), "the image to be imported")
    assert any("blobs" in line and "bytes=" in line for line in registry.log), "it goes on where it was"
    wait_until(lambda: is_true(cloud.get("-n", namespace, "datasource", "debian"), "Ready"), "the DataSource")
    copy = data_volume(namespace, "copy")
    del copy["spec"]["source"]
    copy["spec"]["sourceRef"] = {"kind": "DataSource", "name": "debian"}
    cloud.apply(copy)
    wait_until(lambda: phase(cloud, namespace, "copy") == "Succeeded", "a copy of it")
    assert disk_of(cloud, namespace, "copy")[: len(DISK)] == DISK


def test_a_guest_reads_what_its_machine_is_given(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    given = {"conf": {"configMap": {"name": "web", "volumeLabel": "settings"}}, "key": {"secret": {"secretName": "key"}}}
    given["account"] = {"serviceAccount": {"serviceAccountName": "reader"}}
    given["about"] = {"downwardAPI": {"fields": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    manifest = guest_machine(namespace, push_guest(registry))
    guest = manifest["spec"]["template"]["spec"]
    guest["volumes"] += [{"name": name, **source} for name, source in given.items()]
    guest["domain"]["devices"]["disks"] += [{"name": name, "disk": {"bus": "virtio"}} for name in given]
    cloud.apply([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": namespace}}, manifest])

    def refusal() -> dict[str, str]:
        return find_condition(cloud.get("-n", namespace, "vmi", "guest"), "Synchronized") or {}

    wait_until(lambda: refusal().get("reason") == "FailedMount", "the missing ConfigMap to be told")
    assert f"ConfigMap {namespace}/web" in refusal()["message"]
    metadata = {"name": "web", "namespace": namespace}
    cloud.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"site.conf": "listen 80;"}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace}}
    cloud.apply({**secret, "data": {"tls.key": base64.b64encode(b"private").decode()}})

    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmi", "guest"), "Ready"), "the machine to run")

    def read(device: str, command: str) -> str:
        return console(cloud, namespace, "guest", f"mkdir -p /mnt && mount -t iso9660 -o ro /dev/{device} /mnt && {command}; umount /mnt")

    assert "listen 80;" in read("vdc", "cat /mnt/site.conf")
    assert "private" in read("vdd", "cat /mnt/tls.key")
    token = read("vde", "cat /mnt/token; echo; cat /mnt/namespace; echo")
    assert namespace in token
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["sub"] == f"system:serviceaccount:{namespace}:reader"
    assert claims["kubernetes.io"]["pod"]["name"].startswith("virt-launcher-guest-")
    assert 'app="guest"' in read("vdf", "cat /mnt/labels")
    cloud.kubectl("-n", namespace, "delete", "vm", "guest")


def test_a_disk_is_copied_from_a_claim_and_from_a_snapshot_and_a_quota_holds(
    cloud: CloudUnderTest, namespace: str, web: HttpServer
) -> None:
    web.files["/source"] = DISK
    cloud.apply([data_volume(namespace, "source", http={"url": web.url("/source")}), data_volume(namespace, "empty", blank={})])
    wait_until(lambda: phase(cloud, namespace, "source") == "Succeeded", "the disk to copy")
    snapshot = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "then", "namespace": namespace}}
    cloud.apply({**snapshot, "spec": {"source": {"persistentVolumeClaimName": "source"}}})
    named = {"pvc": {"name": "source", "namespace": namespace}, "snapshot": {"name": "then", "namespace": namespace}}
    cloud.apply([data_volume(namespace, f"from-{kind}", **{kind: source}) for kind, source in named.items()])
    for name in ("from-pvc", "from-snapshot"):
        wait_until(lambda name=name: phase(cloud, namespace, name) == "Succeeded", name)  # type: ignore[misc]
        assert disk_of(cloud, namespace, name) == DISK + bytes(8 * MIB)
        annotations = cloud.get("-n", namespace, "pvc", name)["metadata"]["annotations"]
        assert annotations["cdi.kubevirt.io/cloneType"] in ("csi-clone", "copy")
    assert not any(disk_of(cloud, namespace, "empty"))

    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": namespace}}
    cloud.apply({**quota, "spec": {"hard": {"requests.storage": "80Mi"}}})
    wait_until(
        lambda: "64Mi" in str(cloud.get("-n", namespace, "quota", "small").get("status", {}).get("used")), "the quota to be reckoned"
    )
    cloud.apply(data_volume(namespace, "more", "32Mi", blank={}))

    def refusal() -> str:
        return str((find_condition(cloud.get("-n", namespace, "dv", "more"), "Ready") or {}).get("message"))

    wait_until(lambda: "exceeded quota" in refusal(), "the quota to be told")
