"""A machine's disk is downloaded as virtctl does it, and the machine moves to another namespace by the manifests of its export."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from pilvi.api import Key
from pilvi.kube import Client, load_kubeconfig
from tests import vmexport
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.conftest import namespaces_of
from tests.http_server import HttpServer, http_server_in_thread
from tests.images.bootsector import boot_disk

EXAMPLES = Path(__file__).parents[2] / "examples"
MIB = 1 << 20
DISK = boot_disk("from afar") + os.urandom(7 * MIB) + bytes(8 * MIB)


@pytest.fixture(scope="module")
def web() -> Iterator[HttpServer]:
    with http_server_in_thread() as server:
        server.files["/image"] = DISK
        yield server


@pytest.fixture
def namespaces(cloud: CloudUnderTest) -> Iterator[list[str]]:
    with namespaces_of(cloud, "exports-here", "exports-elsewhere") as names:
        yield names


def example(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))


def put_machine(cloud: CloudUnderTest, namespace: str, web: HttpServer) -> None:
    """The machine that examples/vm-export.yaml exports, with a disk that boots in no time."""
    disk, machine, _ = example("vm-snapshot")
    disk["spec"]["source"] = {"http": {"url": web.url("/image")}}
    disk["spec"]["storage"]["resources"]["requests"]["storage"] = "16Mi"
    machine["spec"]["runStrategy"] = "Halted"
    guest = machine["spec"]["template"]["spec"]
    guest["domain"]["memory"]["guest"] = "64Mi"
    guest["terminationGracePeriodSeconds"] = 0
    cloud.apply([disk, machine], namespace=namespace)


def power(cloud: CloudUnderTest, namespace: str, strategy: str) -> None:
    cloud.kubectl("-n", namespace, "patch", "vm", "notes", "--type=merge", "-p", f'{{"spec":{{"runStrategy":"{strategy}"}}}}')


def reason(cloud: CloudUnderTest, namespace: str) -> str:
    return str((find_condition(cloud.get("-n", namespace, "vmexport", "notes"), "Ready") or {}).get("reason"))


async def take(cloud: CloudUnderTest, namespace: str, folder: Path) -> str:
    """Both formats, and the manifests."""
    async with Client.open(load_kubeconfig(cloud.kubeconfig())) as client:
        key = Key(namespace, "notes")
        packed = await vmexport.download(client, key, folder / "packed")
        await vmexport.download(client, key, folder / "raw", raw=True)
        assert (folder / "packed").stat().st_size == packed < 9 * MIB, "zeros are not sent"
        return await vmexport.download_manifest(client, key, include_secret=True)


async def download_claim(cloud: CloudUnderTest, namespace: str, claim: str, file: Path) -> None:
    """`vmexport download NAME --pvc=CLAIM`, which makes the export and deletes it again."""
    async with Client.open(load_kubeconfig(cloud.kubeconfig())) as client:
        key = Key(namespace, "once")
        await vmexport.create(client, key, "PersistentVolumeClaim", claim)
        await vmexport.download(client, key, file, raw=True)
        assert await vmexport.delete(client, key)


async def refused(cloud: CloudUnderTest, namespace: str) -> None:
    """Without the token nobody gets anything, from wherever."""
    link = cloud.get("-n", namespace, "vmexport", "notes")["status"]["links"]["external"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        for volume in link["volumes"][0]["formats"]:
            async with session.get(volume["url"]) as answer:
                assert answer.status == 401


def test_a_disk_is_downloaded_and_the_machine_made_elsewhere(
    cloud: CloudUnderTest, namespaces: list[str], web: HttpServer, tmp_path: Path
) -> None:
    namespace, elsewhere = namespaces
    put_machine(cloud, namespace, web)
    (export,) = example("vm-export")
    cloud.apply(export, namespace=namespace)
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmexport", "notes"), "Ready"), "the export to be ready")
    asyncio.run(refused(cloud, namespace))
    manifests = asyncio.run(take(cloud, namespace, tmp_path))
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == (tmp_path / "raw").read_bytes() == DISK

    cloud.apply([obj for obj in yaml.safe_load_all(manifests) if obj], namespace=elsewhere)
    wait_until(lambda: cloud.get("-n", elsewhere, "dv", "notes").get("status", {}).get("phase") == "Succeeded", "the disk to be there")
    asyncio.run(download_claim(cloud, elsewhere, "notes", tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == DISK
    wait_until(lambda: not cloud.exists("-n", elsewhere, "secret", "secret-once"), "the token to go with its export")
    cloud.pilvi("vm", "export", f"{elsewhere}/notes", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == DISK
    power(cloud, elsewhere, "Always")
    wait_until(lambda: is_true(cloud.get("-n", elsewhere, "vm", "notes"), "Ready"), "the machine to run there")
    uid = cloud.get("-n", elsewhere, "vmi", "notes")["metadata"]["uid"]
    wait_until(lambda: "from afar" in (cloud.home / "machines" / uid / "serial.log").read_text(), "the guest's word")

    # A machine goes before its export.
    power(cloud, namespace, "Always")
    wait_until(lambda: reason(cloud, namespace) == "InUse", "the export to stand back")
    power(cloud, namespace, "Halted")
    wait_until(lambda: reason(cloud, namespace) == "PodReady", "the export to be ready again")
    token = cloud.get("-n", namespace, "vmexport", "notes")["status"]["tokenSecretRef"]
    cloud.kubectl("-n", namespace, "delete", "vmexport", "notes")
    wait_until(lambda: not cloud.exists("-n", namespace, "secret", token), "its token to go")
    assert cloud.exists("-n", namespace, "pvc", "notes")
