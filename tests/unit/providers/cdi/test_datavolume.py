"""DataVolumes from nothing to whole, and what stands in their way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import Key
from pilvi.api.builtin import PODS, SECRETS
from pilvi.providers.cdi.kinds import (
    CLAIMS,
    CLASSES,
    CLONE_SOURCES,
    CLONE_TYPE,
    CONFIG_MAPS,
    DATA_SOURCES,
    DATA_VOLUMES,
    IMPORT_SOURCES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
)
from pilvi.providers.claims import BIND_AT_ONCE, POPULATED, VOLUME, annotations_of, volume_file
from pilvi.runtime import is_true
from tests.fake_api import FakeApi
from tests.http_server import http_server
from tests.images.registry import make_layer, serve_registry
from tests.unit.providers.cdi.scene import MIB, content, events, make_class, make_data_volume, phase, put, scene, told

DISK = os.urandom(300_000) + bytes(8 * MIB - 300_000)


def from_url(url: str, size: str = "16Mi", name: str = "disk", **http: Any) -> dict[str, Any]:
    return make_data_volume(name, size, source={"http": {"url": url, **http}})


def imports(home: Path) -> list[Path]:
    return [*(home / "imports").iterdir()] if (home / "imports").exists() else []


async def test_an_empty_disk(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, storage):
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: phase(stage) == "Succeeded")
        claim = stage.get(CLAIMS, "disk", "team")
        assert claim["spec"]["volumeMode"] == "Block"
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert claim["spec"]["storageClassName"] == "local"
        assert claim["metadata"]["ownerReferences"][0]["kind"] == "DataVolume"
        status = stage.get(DATA_VOLUMES, "disk", "team")["status"]
        assert (status["progress"], status["claimName"], status["restartCount"]) == ("100.0%", "disk", 0)
        assert all(is_true(stage.get(DATA_VOLUMES, "disk", "team"), kind) for kind in ("Ready", "Bound"))
        assert told(stage, "Running")["reason"] == "Completed"
        await stage.until(lambda: not stage.get(CLAIMS, "disk", "team")["metadata"]["finalizers"])
        await stage.until(lambda: "ImportSucceeded" in events(fake_api))
        await stage.settled()
        assert content(stage, storage) == bytes(16 * MIB)


async def test_a_packed_image_with_checksum_and_credentials(fake_api: FakeApi, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    packed = gzip.compress(image.read_bytes())
    secret = {"accessKeyId": "YWRh", "secretKey": "d29yZA=="}  # ada, word
    put(fake_api, SECRETS, {"metadata": {"name": "login", "namespace": "team"}, "data": secret})
    put(fake_api, SECRETS, {"metadata": {"name": "header", "namespace": "team"}, "data": {"h": "WC1Ub2tlbjogdDBw"}})  # X-Token: t0p
    async with http_server(files={"/d.gz": packed}, user=("ada", "word")) as server, scene(fake_api, tmp_path) as (stage, storage):
        server.needed_headers = {"X-Token": "t0p", "X-More": "yes"}
        more = {"secretRef": "login", "secretExtraHeaders": ["header"], "extraHeaders": ["X-More: yes"]}
        checksum = f"sha256:{hashlib.sha256(packed).hexdigest()}"
        stage.put(DATA_VOLUMES, from_url(server.url("/d.gz"), checksum=checksum, **more))
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage) == DISK + bytes(8 * MIB)
        await stage.until(lambda: imports(tmp_path) == [])
        assert storage.file(stage.get(CLAIMS, "disk", "team")).stat().st_mode & 0o777 == 0o600
        assert "t0p" not in str([obj for obj in fake_api.objects.values() if obj["kind"] != "Secret"])


async def test_a_container_disk(fake_api: FakeApi, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    put(fake_api, SECRETS, {"metadata": {"name": "login", "namespace": "team"}, "data": {"accessKeyId": "YWRh", "secretKey": "d29yZA=="}})
    async with serve_registry() as registry, scene(fake_api, tmp_path) as (stage, storage):
        registry.credentials = ("ada", "word")
        name = registry.add("a/disk", "1", make_layer({"disk/disk.qcow2": image.read_bytes()}))
        source = {"registry": {"url": f"docker://{name}", "secretRef": "login", "pullMethod": "node"}}
        stage.put(DATA_VOLUMES, make_data_volume(source=source))
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage) == DISK + bytes(8 * MIB)
        stage.put(DATA_VOLUMES, make_data_volume("small", "4Mi", source=source))
        await stage.until(lambda: phase(stage, "small") == "Failed")
        assert "ask for at least 8Mi" in told(stage, "Ready", "small")["message"]
        stage.put(DATA_VOLUMES, make_data_volume("absent", source={"registry": {"url": f"docker://{name}2", "secretRef": "login"}}))
        await stage.until(lambda: told(stage, "Running", "absent").get("reason") == "TransferFailed")
        assert phase(stage, "absent") == "ImportInProgress"
        stage.put(DATA_VOLUMES, make_data_volume("wrong", source={"registry": {"url": "docker://127.0.0.1:1/UPPER"}}))
        await stage.until(lambda: told(stage, "Running", "wrong").get("reason") == "SourceInvalid")


async def test_bound_means_populated(fake_api: FakeApi, tmp_path: Path) -> None:
    async with http_server(files={"/d": DISK}, pause_s=0.01) as server, scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_VOLUMES, from_url(server.url("/d")))
        await stage.until(lambda: phase(stage) == "ImportInProgress")
        assert not stage.get(CLAIMS, "disk", "team")["spec"].get("volumeName")
        assert told(stage, "Running")["status"] == "True"
        assert told(stage, "Ready")["status"] == "False"
        await stage.until(lambda: phase(stage) == "Succeeded")
        claim = stage.get(CLAIMS, "disk", "team")
        assert claim["spec"]["volumeName"]
        assert annotations_of(claim)[POPULATED] == "true"


async def test_an_engine_that_was_killed_goes_on_where_it_was(fake_api: FakeApi, tmp_path: Path) -> None:
    async with http_server(files={"/d": DISK}, pause_s=0.02) as server:
        async with scene(fake_api, tmp_path) as (stage, _):
            stage.put(DATA_VOLUMES, from_url(server.url("/d")))
            await stage.until(lambda: server.sent > 2 * MIB)
        assert len(imports(tmp_path)) == 1
        server.pause_s = 0.0
        (tmp_path / "imports" / "of-a-claim-that-is-gone").mkdir()
        async with scene(fake_api, tmp_path) as (stage, storage):
            await stage.until(lambda: phase(stage) == "Succeeded")
            assert content(stage, storage)[: len(DISK)] == DISK
            await stage.until(lambda: imports(tmp_path) == [])
        assert server.requests[-1][2].get("Range", "").startswith("bytes=")
        assert len(server.requests) == 2


async def test_a_server_that_fails_is_tried_again_and_the_reason_is_told(
    fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.population.fills.FIRST_DELAY_S", 0.5)
    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, storage):
        server.answer(503)
        stage.put(DATA_VOLUMES, from_url(server.url("/d")))
        await stage.until(lambda: "503" in told(stage, "Running").get("message", ""))
        assert told(stage, "Running")["reason"] == "TransferFailed"
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert stage.get(DATA_VOLUMES, "disk", "team")["status"]["restartCount"] == 1
        assert content(stage, storage)[: len(DISK)] == DISK
        await stage.until(lambda: "TransferFailed" in events(fake_api))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("checksum", "the checksum is md5:"),
        ("size", "ask for at least 8Mi"),
        ("backing", "needs another file"),
        ("packed", "cut off"),
        ("cut", "cut off or damaged"),
        ("page", "which is no disk"),
    ],
)
async def test_what_can_never_be_used_fails_for_good_and_leaves_nothing(fake_api: FakeApi, tmp_path: Path, kind: str, words: str) -> None:
    image, more = DISK, {}
    if kind == "checksum":
        more = {"checksum": f"md5:{'0' * 32}"}
    if kind == "backing":
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", tmp_path / "q", "4M"], check=True)
        image = (tmp_path / "q").read_bytes()
    if kind == "cut":
        (tmp_path / "raw").write_bytes(DISK)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", tmp_path / "raw", tmp_path / "q"], check=True)
        image = (tmp_path / "q").read_bytes()[:300_000]
    if kind == "page":
        image = b"<html>404</html>"
    if kind == "packed":
        image = gzip.compress(DISK)[:-500]
    async with http_server(files={"/d": image}) as server, scene(fake_api, tmp_path) as (stage, storage):
        stage.put(DATA_VOLUMES, from_url(server.url("/d"), size="4Mi" if kind == "size" else "16Mi", **more))
        await stage.until(lambda: phase(stage) == "Failed")
        assert words in told(stage, "Ready")["message"]
        await stage.until(lambda: imports(tmp_path) == [])
        await stage.settled()
        claim = stage.get(CLAIMS, "disk", "team")
        assert not claim["spec"].get("volumeName")
        assert not any(storage.file(claim).read_bytes())
        assert not claim["metadata"]["finalizers"]
        assert [path.name for path in storage.file(claim).parent.iterdir()] == ["disk.img"]
        asked = len(server.requests)
    async with scene(fake_api, tmp_path) as (stage, _):
        await stage.settled()
        assert phase(stage) == "Failed"
    assert asked == 1


async def test_deletion_in_the_middle_leaves_nothing(fake_api: FakeApi, tmp_path: Path) -> None:
    async with http_server(files={"/d": DISK}, pause_s=0.05) as server, scene(fake_api, tmp_path) as (stage, storage):
        stage.put(DATA_VOLUMES, from_url(server.url("/d")))
        await stage.until(lambda: server.sent > MIB)
        claim = stage.get(CLAIMS, "disk", "team")
        fake_api.remove(DATA_VOLUMES.object_path(Key("team", "disk")))
        await stage.platform.client.delete(CLAIMS, Key("team", "disk"))  # as the garbage collector does
        await stage.until(lambda: stage.find(CLAIMS, "disk", "team") is None)
        assert imports(tmp_path) == []
        assert [path.name for path in storage.file(claim).parent.iterdir()] == ["disk.img"]
        await asyncio.sleep(0.1)
        assert imports(tmp_path) == []


async def test_a_full_disk_is_told_and_the_import_goes_on(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.population.fills.FIRST_DELAY_S", 0.05)
    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, storage):
        with monkeypatch.context() as patch:
            patch.setattr("pilvi.transfer.download.ROOM_BYTES", 1 << 60)
            stage.put(DATA_VOLUMES, from_url(server.url("/d")))
            await stage.until(lambda: told(stage, "Running").get("reason") == "NoSpace")
            assert "remove disks" in told(stage, "Running")["message"]
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage)[: len(DISK)] == DISK


async def test_a_first_consumer_is_waited_for(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, CLASSES, make_class(volumeBindingMode="WaitForFirstConsumer"))
    async with scene(fake_api, tmp_path, classes=False) as (stage, storage):
        storage.paused = True
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: phase(stage) == "WaitForFirstConsumer")
        assert "start one" in told(stage, "Running")["message"]
        now = make_data_volume("now", source={"blank": {}})
        now["metadata"]["annotations"] = {BIND_AT_ONCE: "true"}
        stage.put(DATA_VOLUMES, now)
        await stage.until(lambda: phase(stage, "now") == "Pending")
        assert annotations_of(stage.get(CLAIMS, "now", "team"))[BIND_AT_ONCE] == "true"
        storage.paused = False
        await stage.until(lambda: phase(stage) == phase(stage, "now") == "Succeeded")


async def test_a_copy_has_its_sources_data_size_and_mode(fake_api: FakeApi, tmp_path: Path) -> None:
    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, storage):
        first = from_url(server.url("/d"))
        first["spec"]["storage"]["volumeMode"] = "Filesystem"
        stage.put(DATA_VOLUMES, first)
        copy = make_data_volume("copy", None, source={"pvc": {"name": "disk", "namespace": "team"}})
        stage.put(DATA_VOLUMES, copy)
        await stage.until(lambda: told(stage, "Ready", "copy").get("reason") in ("CloneSourceNotFound", "CloneSourceNotReady"))
        await stage.until(lambda: phase(stage) == "Succeeded")
        await stage.until(lambda: phase(stage, "copy") == "Succeeded")
        claim = stage.get(CLAIMS, "copy", "team")
        assert content(stage, storage, "copy") == content(stage, storage)
        assert claim["spec"]["resources"]["requests"]["storage"] == "16Mi"
        assert claim["spec"]["volumeMode"] == "Filesystem"
        assert annotations_of(claim)[CLONE_TYPE] in ("csi-clone", "copy")
        await stage.until(lambda: "CloneSucceeded" in events(fake_api))


async def test_a_disk_in_use_and_a_target_too_small(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.population.controller.MISSING_S", 600.0)  # the end of the Pod wakes
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: phase(stage) == "Succeeded")
        pod = {"metadata": {"name": "vm", "namespace": "team"}, "spec": {"volumes": volumes}, "status": {"phase": "Running"}}
        stage.put(PODS, pod)
        named = {"pvc": {"name": "disk", "namespace": "team"}}
        stage.put(DATA_VOLUMES, make_data_volume("copy", None, source=named))
        stage.put(DATA_VOLUMES, make_data_volume("small", "15Mi", source=named))
        await stage.until(lambda: told(stage, "Running", "copy").get("reason") == "CloneSourceInUse")
        await stage.until(lambda: told(stage, "Ready", "small").get("reason") == "CloneValidationFailed")
        assert "smaller than the source" in told(stage, "Ready", "small")["message"]
        assert stage.find(CLAIMS, "small", "team") is None
        stage.put(PODS, {**pod, "status": {"phase": "Succeeded"}})
        await stage.until(lambda: phase(stage, "copy") == "Succeeded")


async def test_a_data_source_names_the_disk(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.datavolume.controller.PROBLEM_S", 600.0)  # the claim wakes
    async with scene(fake_api, tmp_path) as (stage, _):
        for name, source in (
            ("a", {"dataSource": {"name": "b", "namespace": "team"}}),
            ("b", {"pvc": {"name": "disk", "namespace": "team"}}),
        ):
            stage.put(DATA_SOURCES, {"metadata": {"name": name, "namespace": "team"}, "spec": {"source": source}})
        stage.put(DATA_VOLUMES, make_data_volume("copy", None, sourceRef={"kind": "DataSource", "name": "a"}))

        def ready(name: str) -> Any:
            status = stage.get(DATA_SOURCES, name, "team").get("status") or {}
            return next(iter(status.get("conditions") or []), {})

        await stage.until(lambda: ready("a").get("reason") == "CloneSourceNotFound")
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: ready("a").get("status") == ready("b").get("status") == "True")
        assert stage.get(DATA_SOURCES, "a", "team")["status"]["source"] == {"pvc": {"name": "disk", "namespace": "team"}}
        await stage.until(lambda: phase(stage, "copy") == "Succeeded")
        circle = {"dataSource": {"name": "c", "namespace": "team"}}
        stage.put(DATA_SOURCES, {"metadata": {"name": "c", "namespace": "team"}, "spec": {"source": circle}})
        await stage.until(lambda: ready("c").get("reason") == "MaxDepthExceeded")
        await stage.settled()


async def test_a_snapshot_that_comes_later_wakes_its_copies(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.datavolume.controller.PROBLEM_S", 600.0)
    named = {"name": "snap", "namespace": "team"}
    async with scene(fake_api, tmp_path) as (stage, storage):
        stage.put(DATA_SOURCES, {"metadata": {"name": "golden", "namespace": "team"}, "spec": {"source": {"snapshot": named}}})
        stage.put(DATA_VOLUMES, make_data_volume("copy", None, sourceRef={"kind": "DataSource", "name": "golden"}))
        await stage.until(lambda: told(stage, "Ready", "copy").get("reason") == "CloneSourceNotFound")
        file = volume_file(storage.cloud, "snapshot-1")
        file.parent.mkdir(parents=True)
        file.write_bytes(DISK)
        stored = stage.put(SNAPSHOTS, {"metadata": named, "spec": {}})
        content_spec = {"volumeSnapshotRef": {**named, "uid": stored["metadata"]["uid"]}}
        content_metadata = {"name": "content", "annotations": {VOLUME: "snapshot-1"}}
        stage.put(SNAPSHOT_CONTENTS, {"metadata": content_metadata, "spec": content_spec})
        await stage.until(lambda: told(stage, "Ready", "copy").get("reason") == "CloneSourceNotReady")
        status = {"boundVolumeSnapshotContentName": "content", "readyToUse": True, "restoreSize": str(len(DISK))}
        stage.put(SNAPSHOTS, {**stored, "status": status})
        await stage.until(lambda: phase(stage, "copy") == "Succeeded")
        assert content(stage, storage, "copy") == DISK
        status = stage.get(DATA_SOURCES, "golden", "team")["status"]
        assert status["source"] == {"snapshot": named}
        assert status["conditions"][0]["status"] == "True"


async def test_a_claim_without_data_volume_is_filled_by_its_reference(fake_api: FakeApi, tmp_path: Path) -> None:
    def claim(name: str, kind: str) -> dict[str, Any]:
        reference = {"apiGroup": "cdi.kubevirt.io", "kind": kind, "name": "what"}
        spec = {"dataSourceRef": reference, "resources": {"requests": {"storage": "16Mi"}}, "accessModes": ["ReadWriteOnce"]}
        return {"metadata": {"name": name, "namespace": "team"}, "spec": spec}

    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, storage):
        stage.put(CLAIMS, claim("disk", "VolumeImportSource"))
        await stage.until(lambda: "VolumeImportSource" in str(annotations_of(stage.get(CLAIMS, "disk", "team"))))
        named = {"name": "what", "namespace": "team"}
        stage.put(IMPORT_SOURCES, {"metadata": named, "spec": {"source": {"http": {"url": server.url("/d")}}}})
        await stage.until(lambda: stage.get(CLAIMS, "disk", "team")["spec"].get("volumeName"))
        assert content(stage, storage)[: len(DISK)] == DISK
        stage.put(CLONE_SOURCES, {"metadata": named, "spec": {"source": {"kind": "PersistentVolumeClaim", "name": "disk"}}})
        stage.put(CLAIMS, claim("copy", "VolumeCloneSource"))
        await stage.until(lambda: stage.get(CLAIMS, "copy", "team")["spec"].get("volumeName"))
        assert content(stage, storage, "copy") == content(stage, storage)


async def test_annotations_cannot_lead_to_another_volume(fake_api: FakeApi, tmp_path: Path) -> None:
    """Who may write a claim may write its annotations: the volume that is filled follows from the UID."""
    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, storage):
        stage.put(DATA_VOLUMES, make_data_volume("victim", source={"blank": {}}))
        await stage.until(lambda: phase(stage, "victim") == "Succeeded")
        storage.paused = True
        victim = stage.get(CLAIMS, "victim", "team")
        stage.put(DATA_VOLUMES, from_url(server.url("/d")))
        await stage.until(lambda: stage.find(CLAIMS, "disk", "team"))
        claim = stage.get(CLAIMS, "disk", "team")
        stage.put(
            CLAIMS,
            {
                **claim,
                "metadata": {
                    **claim["metadata"],
                    "annotations": {**annotations_of(claim), "pilvi.dev/volume": f"pvc-{victim['metadata']['uid']}"},
                },
            },
        )
        await stage.until(lambda: "is not there" in told(stage, "Running").get("message", ""))
        assert not any(storage.file(victim).read_bytes())


async def test_a_claim_of_somebody_else_and_a_quota(fake_api: FakeApi, tmp_path: Path) -> None:
    put(fake_api, CLAIMS, {"metadata": {"name": "disk", "namespace": "team"}, "spec": {"resources": {"requests": {"storage": "1Mi"}}}})
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: told(stage, "Bound").get("reason") == "ErrResourceExists")
        await stage.until(lambda: "ErrResourceExists" in events(fake_api))
        fake_api.fail(403, "Forbidden", method="POST", times=1)
        stage.put(DATA_VOLUMES, make_data_volume("other", source={"blank": {}}))
        await stage.until(lambda: told(stage, "Bound", "other").get("reason") == "ErrClaimNotValid")


async def test_secrets_and_config_maps_that_come_later(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.providers.cdi.population.controller.MISSING_S", 0.05)
    async with http_server(files={"/d": DISK}) as server, scene(fake_api, tmp_path) as (stage, _):
        stage.put(DATA_VOLUMES, from_url(server.url("/d"), secretRef="login", certConfigMap="ca"))
        await stage.until(lambda: told(stage, "Running").get("reason") == "SecretNotFound")
        assert phase(stage) == "ImportScheduled"
        stage.put(SECRETS, {"metadata": {"name": "login", "namespace": "team"}, "data": {}})
        await stage.until(lambda: told(stage, "Running").get("reason") == "ConfigMapNotFound")
        stage.put(CONFIG_MAPS, {"metadata": {"name": "ca", "namespace": "team"}, "data": {"x": "nonsense"}})
        await stage.until(lambda: "not certificates in PEM" in told(stage, "Running").get("message", ""))


@pytest.mark.parametrize("number", range(1, 8))
async def test_half_made(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    """Whichever write fails, the disk is whole in the end."""
    async with scene(fake_api, tmp_path) as (stage, _):
        await stage.settled()
        stage.fail_write(number, 500, "InternalError", but="")
        stage.put(DATA_VOLUMES, make_data_volume(source={"blank": {}}))
        await stage.until(lambda: phase(stage) == "Succeeded")
        await stage.until(lambda: not stage.get(CLAIMS, "disk", "team")["metadata"]["finalizers"])
