"""Claims, volumes and snapshots on a real plane: its controllers bind, protect, release and count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import EVENTS, PODS
from pilvi.errors import Forbidden, Invalid
from pilvi.kube import Client, apply_all
from pilvi.plane.default_objects import defaults
from pilvi.providers import storage
from pilvi.providers.claims import POPULATED, VOLUME, annotations_of, claim_volume, volume_file
from pilvi.providers.storage.kinds import CLAIMS, CLASSES, CONTENTS, SNAPSHOTS, VOLUMES
from tests.plane.machine_plane import MachinePlane, Scene, on_plane

QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
OURS = ("StorageClass", "CSIDriver", "VolumeSnapshotClass")
MIB = 1 << 20


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with Client.open(plane.kubeconfig()) as client:
        await apply_all(client, [obj for obj in defaults() if obj["kind"] in OURS], manager="test")
    name = request.node.name.replace("_", "-")[:50].strip("-")
    async with on_plane(plane, name, tmp_path, storage.controllers) as scene:
        yield scene


def make_claim(name: str = "disk", size: str = "16Mi", **spec: Any) -> JsonObject:
    wanted = {"accessModes": ["ReadWriteMany"], "volumeMode": "Block", "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": name}, "spec": wanted}


def is_bound(claim: JsonObject) -> bool:
    return bool(claim["status"].get("phase") == "Bound")


def disk(scene: Scene, claim: JsonObject) -> Path:
    return volume_file(scene.platform.cloud, claim_volume(claim))


async def test_a_claim_of_the_default_class_lives_and_goes(scene: Scene) -> None:
    await scene.put(CLAIMS, make_claim())
    claim = await scene.until(CLAIMS, "disk", is_bound)
    assert claim["spec"]["storageClassName"] == "local"
    assert claim["status"]["capacity"] == {"storage": "16Mi"}
    assert disk(scene, claim).stat().st_size == 16 * MIB
    volume = claim["spec"]["volumeName"]
    await scene.until(VOLUMES, volume, lambda obj: obj["status"]["phase"] == "Bound")

    grown = {"spec": {"resources": {"requests": {"storage": "20Mi"}}}}
    await scene.client.patch(CLAIMS, scene.key("disk"), grown)
    await scene.until(CLAIMS, "disk", lambda obj: obj["status"]["capacity"] == {"storage": "20Mi"})
    assert disk(scene, claim).stat().st_size == 20 * MIB
    with pytest.raises((Invalid, Forbidden)):
        await scene.client.patch(CLAIMS, scene.key("disk"), {"spec": {"resources": {"requests": {"storage": "10Mi"}}}})

    await scene.client.delete(CLAIMS, scene.key("disk"))
    await scene.until_gone(CLAIMS, "disk")
    await scene.until_gone(VOLUMES, volume)
    assert not disk(scene, claim).parent.exists()
    warnings = [event["message"] for event in await scene.client.list(EVENTS, namespace=scene.namespace) if event["type"] == "Warning"]
    assert warnings == []


async def test_a_claim_that_is_filled_is_not_bound_before(scene: Scene) -> None:
    claim = make_claim()
    await scene.put(CLAIMS, {**claim, "metadata": {**claim["metadata"], "annotations": {POPULATED: "false"}}})
    claim = await scene.until(CLAIMS, "disk", lambda obj: VOLUME in annotations_of(obj))
    assert claim["status"]["phase"] == "Pending"
    disk(scene, claim).write_bytes(b"whole" + bytes(16 * MIB - 5))
    await scene.client.patch(CLAIMS, scene.key("disk"), {"metadata": {"annotations": {POPULATED: "true"}}})
    await scene.until(CLAIMS, "disk", is_bound)
    assert disk(scene, claim).read_bytes()[:5] == b"whole"


async def test_a_claim_in_use_outlives_its_deletion(scene: Scene) -> None:
    await scene.put(CLAIMS, make_claim())
    claim = await scene.until(CLAIMS, "disk", is_bound)
    user: JsonObject = {
        "metadata": {"name": "user"},
        "spec": {
            "containers": [{"name": "c", "image": "none", "volumeDevices": [{"name": "d", "devicePath": "/d"}]}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}],
            "nodeName": "nowhere",
        },
    }
    await scene.put(PODS, user)
    await scene.client.delete(CLAIMS, scene.key("disk"))
    held = await scene.until(CLAIMS, "disk", lambda obj: obj["metadata"].get("deletionTimestamp"))
    assert held["metadata"]["finalizers"]
    assert disk(scene, claim).exists()
    await scene.client.delete(PODS, scene.key("user"), grace_s=0)
    await scene.until_gone(CLAIMS, "disk")
    await scene.until_gone(VOLUMES, claim["spec"]["volumeName"])


async def test_a_class_that_waits_for_its_first_consumer(scene: Scene) -> None:
    lazy = {"provisioner": "local.pilvi.dev", "volumeBindingMode": "WaitForFirstConsumer", "metadata": {"name": "lazy"}}
    await scene.client.create(CLASSES, lazy)
    await scene.put(CLAIMS, make_claim("waits", storageClassName="lazy"))
    hurried = make_claim("hurried", storageClassName="lazy")
    told = {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}
    await scene.put(CLAIMS, {**hurried, "metadata": {"name": "hurried", "annotations": told}})
    await scene.until(CLAIMS, "hurried", is_bound)
    waits = await scene.client.get(CLAIMS, scene.key("waits"))
    assert waits["status"]["phase"] == "Pending"
    assert not disk(scene, waits).exists()


async def test_a_snapshot_and_what_is_made_of_it(scene: Scene) -> None:
    await scene.put(CLAIMS, make_claim())
    claim = await scene.until(CLAIMS, "disk", is_bound)
    disk(scene, claim).write_bytes(b"before" + bytes(16 * MIB - 6))
    await scene.put(SNAPSHOTS, {"metadata": {"name": "snap"}, "spec": {"source": {"persistentVolumeClaimName": "disk"}}})
    snapshot = await scene.until(SNAPSHOTS, "snap", lambda obj: (obj.get("status") or {}).get("readyToUse"))
    assert snapshot["status"]["restoreSize"] == "16Mi"
    disk(scene, claim).write_bytes(b"after" + bytes(16 * MIB - 5))
    named = {"apiGroup": SNAPSHOTS.group, "kind": SNAPSHOTS.kind, "name": "snap"}
    await scene.put(CLAIMS, make_claim("restored", dataSource=named))
    await scene.put(CLAIMS, make_claim("cloned", dataSource={"kind": "PersistentVolumeClaim", "name": "disk"}))
    for name, content in (("restored", b"before"), ("cloned", b"after")):
        made = await scene.until(CLAIMS, name, is_bound)
        assert disk(scene, made).read_bytes().startswith(content)
    with pytest.raises(Invalid, match="make a new VolumeSnapshot"):
        await scene.client.patch(SNAPSHOTS, scene.key("snap"), {"spec": {"source": {"persistentVolumeClaimName": "other"}}})
    await scene.client.delete(SNAPSHOTS, scene.key("snap"))
    await scene.until_gone(SNAPSHOTS, "snap")
    assert await scene.client.find(CONTENTS, Key("", snapshot["status"]["boundVolumeSnapshotContentName"])) is None


async def test_a_quota_holds(scene: Scene) -> None:
    await scene.put(QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": {"requests.storage": "30Mi"}}})
    await scene.until(QUOTAS, "q", lambda obj: (obj.get("status") or {}).get("hard"))
    await scene.put(CLAIMS, make_claim())
    await scene.until(CLAIMS, "disk", is_bound)
    with pytest.raises(Forbidden, match="exceeded quota"):
        await scene.client.create(CLAIMS, {**make_claim("more"), "metadata": {"name": "more", "namespace": scene.namespace}})
    with pytest.raises(Forbidden, match="exceeded quota"):
        await scene.client.patch(CLAIMS, scene.key("disk"), {"spec": {"resources": {"requests": {"storage": "40Mi"}}}})
