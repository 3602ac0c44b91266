"""What exports become, source by source."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time, parse_time, utc_now
from pilvi.providers.claims import BIND_AT_ONCE
from pilvi.providers.kubevirt.export.kinds import (
    CLAIMS,
    CONTENTS,
    EXPORTS,
    INSTANCES,
    MACHINES,
    PODS,
    SECRETS,
    SNAPSHOTS,
    VOLUME_SNAPSHOTS,
    VOLUMES,
)
from pilvi.providers.kubevirt.export.plan import end_of, find_token, restored_claim, restored_name, secret_name
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.export.scene import add_disk, make_export, make_secret, make_vm, pod_of, scene, status, told, until_ready
from tests.unit.providers.stage import Stage

BASE = "https://10.250.0.2:9448/api/export.kubevirt.io/v1beta1/namespaces/team/virtualmachineexports/out"
OF_DISK = {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}
OF_DATA = {"name": "data", "dataVolume": {"name": "data"}}


async def test_a_claim_that_nobody_uses(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        add_disk(stage)
        stage.put(EXPORTS, make_export(ttlDuration="30m"))
        await stage.until(lambda: told(stage) == ("False", "PodPending", "Secret key with a value `token` is awaited; create it"))
        assert status(stage)["phase"] == "Pending"
        assert "links" not in status(stage)
        stage.put(SECRETS, make_secret())
        found = await until_ready(stage)
        link = {
            "cert": "",
            "manifests": [{"type": "auth-header-secret", "url": f"{BASE}/external/manifests/secret"}],
            "volumes": [
                {
                    "name": "disk",
                    "formats": [
                        {"format": "raw", "url": f"{BASE}/volumes/disk/disk.img"},
                        {"format": "gzip", "url": f"{BASE}/volumes/disk/disk.img.gz"},
                    ],
                }
            ],
        }
        assert found["links"]["external"] == link
        assert found["links"]["internal"]["volumes"] == link["volumes"]
        assert found["tokenSecretRef"] == "key"
        assert told(stage)[:2] == ("True", "PodReady")
        assert told(stage, "PVCReady")[:2] == ("True", "PVCBound")
        created = stage.get(EXPORTS, "out", "team")["metadata"]["creationTimestamp"]
        assert found["ttlExpirationTime"] > created
        await stage.settled()

        stage.put(PODS, pod_of("disk"))
        await stage.until(lambda: told(stage)[1] == "InUse")
        assert "virt-launcher-x" in told(stage)[2]
        assert status(stage)["phase"] == "Pending"
        assert "links" not in status(stage)
        stage.put(PODS, pod_of("disk", "Succeeded"))
        await until_ready(stage)
        stage.put(SECRETS, make_secret(""))
        await stage.until(lambda: told(stage)[1] == "PodPending", "an empty token is none")


def bound(stage: Stage, **status: str) -> None:
    stage.put(CLAIMS, {**stage.get(CLAIMS, "disk", "team"), "status": status})


def foreign(stage: Stage) -> None:
    volume = stage.get(VOLUMES, "pv-disk")
    stage.put(VOLUMES, {**volume, "metadata": {"name": "pv-disk"}})


CLAIM_CASES: dict[str, tuple[Any, tuple[str, str], tuple[str, str], str]] = {
    "absent": (lambda stage: None, ("False", "Initializing"), ("False", "PVCNotFound"), "create it"),
    "unbound": (
        lambda stage: (add_disk(stage), bound(stage, phase="Pending")),
        ("False", "PVCPending"),
        ("False", "PVCPending"),
        "pilvi why pvc/team/disk",
    ),
    "lost": (lambda stage: (add_disk(stage), bound(stage, phase="Lost")), ("False", "PVCPending"), ("False", "Unknown"), "is not bound"),
    "not filled": (
        lambda stage: add_disk(stage, annotations={"pilvi.dev/populated": "false"}),
        ("False", "PVCPending"),
        ("True", "PVCBound"),
        "is not populated",
    ),
    "of another storage": (
        lambda stage: (add_disk(stage), foreign(stage)),
        ("False", "Unknown"),
        ("True", "PVCBound"),
        "not on a volume of this cloud",
    ),
}


@pytest.mark.parametrize("case", CLAIM_CASES)
async def test_claims_that_cannot_be_read(fake_api: FakeApi, tmp_path: Path, case: str) -> None:
    prepare, ready, pvc, words = CLAIM_CASES[case]
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(SECRETS, make_secret())
        prepare(stage)
        stage.put(EXPORTS, make_export())
        await stage.until(lambda: told(stage)[:2] == ready)
        assert told(stage, "PVCReady")[:2] == pvc
        assert words in told(stage)[2]
        assert status(stage)["phase"] == "Pending"
        add_disk(stage)
        await until_ready(stage)


async def test_a_token_of_its_own_is_made_when_there_is_something_to_read(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        export = make_export(tokenSecretRef=None)
        export["spec"].pop("tokenSecretRef")
        stage.put(EXPORTS, export)
        await stage.until(lambda: told(stage)[1] == "Initializing")
        assert stage.find(SECRETS, "export-token-out", "team") is None
        add_disk(stage)
        assert (await until_ready(stage))["tokenSecretRef"] == "export-token-out"
        secret = stage.get(SECRETS, "export-token-out", "team")
        assert len(find_token(secret) or b"") >= 20
        (owner,) = secret["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("VirtualMachineExport", "out", True)
        await stage.settled()
        assert stage.get(SECRETS, "export-token-out", "team")["data"] == secret["data"]


async def test_an_export_goes_when_its_time_is_over(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        add_disk(stage)
        stage.put(SECRETS, make_secret())
        export = make_export(ttlDuration="1s")
        stage.put(EXPORTS, export)
        await stage.until(lambda: stage.find(EXPORTS, "out", "team") is None)
        export["metadata"]["creationTimestamp"] = format_time(utc_now() - timedelta(hours=3))
        del export["spec"]["ttlDuration"]
        stage.put(EXPORTS, export)
        await stage.until(lambda: stage.find(EXPORTS, "out", "team") is None, "two hours are the default")


async def test_a_machine_when_it_is_off(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(SECRETS, make_secret())
        stage.put(EXPORTS, make_export("VirtualMachine", "web"))
        await stage.until(lambda: (status(stage).get("phase"), told(stage)[1]) == ("Skipped", "VMNotFound"))
        stage.put(MACHINES, make_vm({"name": "seed", "emptyDisk": {"capacity": "1Mi"}}))
        await stage.until(lambda: (status(stage).get("phase"), told(stage)[1]) == ("Skipped", "VMNoVolumes"))
        stage.put(MACHINES, make_vm(OF_DISK, OF_DATA, {**OF_DISK, "name": "twice"}))
        await stage.until(lambda: (status(stage).get("phase"), told(stage)[1]) == ("Pending", "VolumesNotPopulated"))
        add_disk(stage)
        add_disk(stage, "data")
        found = await until_ready(stage)
        assert found["virtualMachineName"] == "web"
        assert [each["name"] for each in found["links"]["external"]["volumes"]] == ["disk", "data"]
        assert [each["type"] for each in found["links"]["external"]["manifests"]] == ["all", "auth-header-secret"]

        vmi: JsonObject = {"metadata": {"name": "web", "namespace": "team"}, "spec": {}, "status": {"phase": "Scheduling"}}
        stage.put(INSTANCES, vmi)
        await stage.until(lambda: told(stage)[:2] == ("False", "InUse"))
        assert "team/web is running" in told(stage)[2]
        stage.put(INSTANCES, {**vmi, "status": {"phase": "Succeeded"}})
        await until_ready(stage)
        stage.put(PODS, pod_of("data"))
        await stage.until(lambda: told(stage)[:2] == ("False", "InUse"), "another machine uses one of its disks")


CLAIM_KEPT: JsonObject = {
    "metadata": {"name": "disk"},
    "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": {"requests": {"storage": "1Mi"}}},
}
BACKUP: JsonObject = {"volumeName": "root", "persistentVolumeClaim": CLAIM_KEPT, "volumeSnapshotName": "copy"}
COPY: JsonObject = {"metadata": {"name": "copy", "namespace": "team"}, "status": {"restoreSize": "4Mi"}}


def put_snapshot(stage: Stage, *backups: JsonObject, ready: bool = True) -> None:
    metadata = {"name": "snap", "namespace": "team"}
    source = {"kind": "VirtualMachine", "name": "web"}
    snapshot = stage.put(SNAPSHOTS, {"metadata": metadata, "spec": {"source": source}, "status": {"readyToUse": ready}})
    spec = {"virtualMachineSnapshotName": "snap", "source": {"virtualMachine": make_vm(OF_DISK)}, "volumeBackups": list(backups)}
    stage.put(CONTENTS, {"metadata": {"name": f"vmsnapshot-content-{snapshot['metadata']['uid']}", "namespace": "team"}, "spec": spec})


async def test_a_snapshot_gets_claims_for_the_time_of_the_export(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(SECRETS, make_secret())
        stage.put(EXPORTS, make_export("VirtualMachineSnapshot", "snap"))
        await stage.until(lambda: (status(stage).get("phase"), told(stage)[1]) == ("Skipped", "VMSnapshotNotFound"))
        put_snapshot(stage, ready=False)
        await stage.until(lambda: (status(stage).get("phase"), told(stage, "VolumesCreated")[1]) == ("Pending", "NotAllPVCsCreated"))
        put_snapshot(stage)
        await stage.until(lambda: (status(stage).get("phase"), told(stage)[1]) == ("Skipped", "VMSnapshotNoVolumes"))
        put_snapshot(stage, BACKUP)
        await stage.until(lambda: "VolumeSnapshot copy is gone" in told(stage)[2])
        stage.put(VOLUME_SNAPSHOTS, COPY)
        put_snapshot(stage, BACKUP)
        made = await stage.until(lambda: stage.find(CLAIMS, "out-disk", "team"))
        assert made["spec"]["resources"]["requests"]["storage"] == "4Mi"
        assert made["spec"]["dataSourceRef"] == {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "copy"}
        assert made["metadata"]["annotations"] == {BIND_AT_ONCE: "true"}
        await stage.until(lambda: told(stage, "VolumesCreated")[:2] == ("False", "NotAllPVCsReady"))
        add_disk(stage, "out-disk", ownerReferences=made["metadata"]["ownerReferences"])
        found = await until_ready(stage)
        assert told(stage, "VolumesCreated")[:2] == ("True", "AllPVCsReady")
        assert found["virtualMachineName"] == "web"
        (volume,) = found["links"]["external"]["volumes"]
        assert volume["name"] == "disk"
        assert volume["formats"][0]["url"] == f"{BASE}/volumes/out-disk/disk.img"
        await stage.settled()


async def test_a_claim_of_somebody_else_in_the_place_of_a_restored_one_is_not_read(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(SECRETS, make_secret())
        add_disk(stage, "out-disk")
        stage.put(VOLUME_SNAPSHOTS, COPY)
        put_snapshot(stage, BACKUP)
        stage.put(EXPORTS, make_export("VirtualMachineSnapshot", "snap"))
        await stage.until(lambda: "out-disk is there already; delete it" in told(stage)[2])
        assert status(stage)["phase"] == "Pending"


async def test_a_quota_that_refuses_the_claims_is_told(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(SECRETS, make_secret())
        stage.put(VOLUME_SNAPSHOTS, COPY)
        put_snapshot(stage, BACKUP)
        fake_api.fail(403, "Forbidden", method="POST")
        stage.put(EXPORTS, make_export("VirtualMachineSnapshot", "snap"))
        await stage.until(lambda: "made to fail" in told(stage)[2] and "made to fail" in told(stage, "VolumesCreated")[2])
        assert told(stage)[:2] == ("False", "NotAllPVCsCreated")


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_it_goes_on_after_any_write_that_fails(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    async with scene(fake_api, tmp_path) as (stage, _):
        stage.put(VOLUME_SNAPSHOTS, COPY)
        put_snapshot(stage, BACKUP)
        stage.fail_write(number, 500, "InternalError", but="")
        export = make_export("VirtualMachineSnapshot", "snap")
        export["spec"].pop("tokenSecretRef")
        stage.put(EXPORTS, export)
        made = await stage.until(lambda: stage.find(CLAIMS, "out-disk", "team"))
        add_disk(stage, "out-disk", ownerReferences=made["metadata"]["ownerReferences"])
        await until_ready(stage)


@pytest.mark.parametrize(("ttl", "life_s"), [(None, 7200), ("1h30m", 5400), ("1.5s", 1.5), ("0", 0), ("99999999999999h", 2**63 / 1e9)])
def test_when_it_ends(ttl: str | None, life_s: float) -> None:
    export = make_export(ttlDuration=ttl)
    created = parse_time(export["metadata"]["creationTimestamp"])
    assert (end_of(export) - created).total_seconds() == pytest.approx(life_s)


def test_names_fit() -> None:
    export = make_export()
    export["spec"].pop("tokenSecretRef")
    export["metadata"]["name"] = "a" * 200
    assert len(secret_name(export)) == 63
    assert len(restored_name(export, "b" * 200)) == 253
    assert restored_name(export, "b" * 200) != restored_name(export, "b" * 199 + "c")
    assert restored_claim(make_export(), BACKUP, {**COPY, "status": {}})["spec"]["resources"]["requests"] == {"storage": "1Mi"}


@pytest.mark.parametrize(
    ("data", "token"),
    [(None, None), ({}, None), ({"token": ""}, None), ({"token": "%"}, None), ({"token": base64.b64encode(b"x").decode()}, b"x")],
)
def test_what_is_a_token(data: dict[str, str] | None, token: bytes | None) -> None:
    assert find_token({"data": data}) == token
    assert find_token(None) is None
