"""A snapshot and the way back, whichever write is refused in between."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.providers import kubevirt, storage
from pilvi.providers.claims import PROVISIONER, claim_volume, volume_file
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.kubevirt.machines.folder import TPM, kept_folder, list_kept_folders
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLASSES, RESTORES, SNAPSHOTS
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.stage import Stage, make_cloud, on_stage
from tests.unit.providers.storage.scene import SNAPSHOT_CLASSES, Binder, make_claim, make_class, put

CREATED = {"creationTimestamp": "2099-01-01T00:00:00Z"}
SOURCE = {"kind": "VirtualMachine", "name": "web"}
DISK_OF_ANYBODY = make_claim()


def machine() -> JsonObject:
    vm = make_vm("Halted")
    vm["metadata"] |= {"namespace": "team", **CREATED}
    vm["spec"]["template"]["spec"]["volumes"] = [{"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}]
    return vm


def told(stage: Stage, resource: Any, name: str, field: str) -> Any:
    return (stage.get(resource, name, "team").get("status") or {}).get(field)


def file_of(stage: Stage, home: Path, claim: str) -> Path:
    return volume_file(make_cloud(home), claim_volume(stage.get(CLAIMS, claim, "team")))


@pytest.mark.parametrize("number", range(1, 17))
async def test_a_machine_comes_back_whichever_write_is_refused(fake_api: FakeApi, tmp_path: Path, number: int) -> None:
    put(fake_api, CLASSES, make_class())
    default = {"snapshot.storage.kubernetes.io/is-default-class": "true"}
    put(
        fake_api,
        SNAPSHOT_CLASSES,
        {"metadata": {"name": "local", "annotations": default}, "driver": PROVISIONER, "deletionPolicy": "Delete"},
    )
    binder = asyncio.create_task(Binder(fake_api).run())

    def build(platform: Any) -> Any:
        return [*storage.controllers(platform), *kubevirt.controllers(platform, {"qemu": FakeMachines()})]

    try:
        async with on_stage(fake_api, tmp_path, build) as stage:
            stage.put(CLAIMS, make_claim())
            await stage.until(lambda: told(stage, CLAIMS, "disk", "phase") == "Bound")
            file_of(stage, tmp_path, "disk").write_bytes(b"before".ljust(16 << 20))
            stage.put(MACHINES, machine())
            await stage.settled()
            kept = kept_folder(make_cloud(tmp_path), stage.get(MACHINES, "web", "team")["metadata"]["uid"])
            kept.mkdir(parents=True)
            (kept / TPM).write_bytes(b"before")
            stage.fail_write(number, 500, "InternalError", but="")
            stage.put(SNAPSHOTS, {"metadata": {"name": "snap", "namespace": "team", **CREATED}, "spec": {"source": SOURCE}})
            await stage.until(lambda: told(stage, SNAPSHOTS, "snap", "readyToUse"))
            with file_of(stage, tmp_path, "disk").open("r+b") as disk:
                disk.write(b"after!")
            (kept / TPM).write_bytes(b"after!")
            spec = {"target": SOURCE, "virtualMachineSnapshotName": "snap"}
            stage.put(RESTORES, {"metadata": {"name": "back", "namespace": "team", **CREATED}, "spec": spec})
            # What kube-controller-manager does: it says who shall make the volume of a new claim.
            await stage.until(lambda: _provision(stage) or told(stage, RESTORES, "back", "complete"))
            await stage.until(lambda: told(stage, RESTORES, "back", "complete"))
            await stage.until(lambda: "restoreInProgress" not in stage.get(MACHINES, "web", "team")["status"])
            (volume,) = stage.get(MACHINES, "web", "team")["spec"]["template"]["spec"]["volumes"]
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert claim.startswith("restore-")
            assert file_of(stage, tmp_path, claim).read_bytes()[:6] == b"before"
            assert (kept / TPM).read_bytes() == b"before"
            (content,) = [obj for path, obj in fake_api.objects.items() if "/virtualmachinesnapshotcontents/" in path]
            assert list_kept_folders(make_cloud(tmp_path)) == sorted((kept.name, content["metadata"]["uid"]))
            assert sum("/volumesnapshots/" in path for path in fake_api.objects) == 1
            assert sum("/persistentvolumeclaims/" in path for path in fake_api.objects) == 2
            assert "error" not in (stage.get(SNAPSHOTS, "snap", "team")["status"])
            await stage.platform.client.delete(SNAPSHOTS, Key("team", "snap"))
            await stage.until(lambda: list_kept_folders(make_cloud(tmp_path)) == [kept.name], "the copy to go with its snapshot")
    finally:
        binder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await binder


def _provision(stage: Stage) -> bool:
    """Whether there is a new claim; it is handed to its provisioner."""
    for path, obj in [*stage.api.objects.items()]:
        if obj["kind"] == CLAIMS.kind and obj["metadata"]["name"].startswith("restore-"):
            annotations = {**(obj["metadata"].get("annotations") or {}), **DISK_OF_ANYBODY["metadata"]["annotations"]}
            stage.api.put(path, {**obj, "metadata": {**obj["metadata"], "annotations": annotations}})
            return True
    return False
