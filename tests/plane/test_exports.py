"""Exports on a real plane, with real volumes: downloaded as virtctl does it, and taken in again by the manifests that they give."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp.test_utils import BaseTestServer, TestServer

from pilvi.api import Resource
from pilvi.api.builtin import CONFIG_MAPS, SECRETS
from pilvi.api.cdi import DataVolume
from pilvi.engine.serve.export import make_application
from pilvi.kube import Client, apply_all
from pilvi.plane.default_objects import defaults
from pilvi.providers import cdi, kubevirt, storage
from pilvi.providers.kubevirt.export.kinds import EXPORTS
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, SNAPSHOTS
from pilvi.runtime import find_condition, is_controlled_by
from tests import vmexport
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.plane.test_kubevirt import put_network
from tests.plane.test_snapshots import Machines, put_machine, read, snapshot, status, write
from tests.plane.test_storage import OURS, is_bound

ELSEWHERE = "https://10.250.0.2:9448"
BY_KIND: dict[str, Resource] = {kind.kind: kind for kind in (CONFIG_MAPS, SECRETS, MACHINES, DataVolume.RESOURCE)}


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with Client.open(plane.kubeconfig()) as client:
        await apply_all(client, [obj for obj in defaults() if obj["kind"] in OURS], manager="test")

    def build(platform: Any) -> Any:
        return [*storage.controllers(platform), *cdi.controllers(platform), *kubevirt.controllers(platform, {"qemu": Machines()})]

    async with on_plane(plane, request.node.name.replace("_", "-")[:50], tmp_path, build) as scene:
        yield scene


async def fetch(scene: Scene, server: BaseTestServer, url: str) -> str:
    """What the proxy answers at the path of `url`."""
    secret = await scene.client.get(SECRETS, scene.key((await scene.client.get(EXPORTS, scene.key("out")))["status"]["tokenSecretRef"]))
    headers = {"x-kubevirt-export-token": base64.b64decode(secret["data"]["token"]).decode(), "Accept": "application/yaml"}
    path = url.removeprefix(ELSEWHERE)
    assert path != url
    async with aiohttp.ClientSession() as session, session.get(server.make_url(path), headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_a_machine_is_exported_while_it_is_off_and_made_again_elsewhere(scene: Scene) -> None:
    await put_network(scene)
    await put_machine(scene, data=b"before")
    key = scene.key("out")
    await vmexport.create(scene.client, key, "VirtualMachine", "web", ttl="1h")
    links = (await vmexport.until_ready(scene.client, key))["status"]["links"]["external"]
    urls = {each["type"]: each["url"] for each in links["manifests"]}

    # A machine goes first; the export is ready again when it has ended.
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"runStrategy": "Always"}})
    await scene.until(EXPORTS, "out", lambda obj: (find_condition(obj, "Ready") or {}).get("reason") == "InUse")
    await scene.until(INSTANCES, "web", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")
    assert (await scene.client.get(EXPORTS, key))["status"]["phase"] == "Pending"
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"runStrategy": "Halted"}})
    await scene.until_gone(INSTANCES, "web")
    await scene.until(EXPORTS, "out", status("phase", "Ready"))

    async with TestServer(make_application(kubevirt.Delivery(scene.platform))) as server:
        text = await fetch(scene, server, urls["all"]) + await fetch(scene, server, urls["auth-header-secret"])
        made = [obj for obj in yaml.safe_load_all(text.replace(ELSEWHERE, str(server.make_url("")).rstrip("/"))) if obj]
        assert [obj["kind"] for obj in made] == ["ConfigMap", "VirtualMachine", "DataVolume", "Secret"]
        # "Elsewhere" is the same namespace here, so disk and machine need other names.
        _, machine, disk, _ = made
        machine["metadata"]["name"] = disk["metadata"]["name"] = "second"
        machine["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = "second"
        for obj in made:
            await scene.put(BY_KIND[obj["kind"]], obj)
        await scene.until(DataVolume.RESOURCE, "second", status("phase", "Succeeded"))
    assert await read(scene, "second") == b"before"
    assert await vmexport.delete(scene.client, key)
    assert not await vmexport.delete(scene.client, key)


async def test_a_snapshot_is_exported_by_claims_that_go_with_the_export(scene: Scene) -> None:
    await put_machine(scene, data=b"before")
    await scene.put(SNAPSHOTS, snapshot())
    await scene.until(SNAPSHOTS, "snap", status("readyToUse"))
    await write(scene, "disk", b"after!")
    source = {"apiGroup": "snapshot.kubevirt.io", "kind": "VirtualMachineSnapshot", "name": "snap"}
    await scene.put(EXPORTS, {"metadata": {"name": "out"}, "spec": {"source": source}})
    found = (await scene.until(EXPORTS, "out", status("phase", "Ready")))["status"]
    assert found["virtualMachineName"] == "web"
    assert found["tokenSecretRef"] == "export-token-out"
    await scene.until(CLAIMS, "out-disk", is_bound)
    assert await read(scene, "out-disk") == b"before"
    # That the garbage collector takes them is seen on a cloud: on a new plane it learns of our kinds after half a minute only.
    export = await scene.client.get(EXPORTS, scene.key("out"))
    for resource, name in ((CLAIMS, "out-disk"), (SECRETS, "export-token-out")):
        assert is_controlled_by(await scene.client.get(resource, scene.key(name)), export)
