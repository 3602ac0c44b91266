"""Snapshots, restores and clones of machines on a real plane, with real volumes and machines whose guests are not real."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject
from pilvi.errors import Invalid
from pilvi.kube import Client, apply_all
from pilvi.plane.default_objects import defaults
from pilvi.providers import cdi, kubevirt, storage
from pilvi.providers.claims import find_volume, volume_file
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.control import SandboxControl
from pilvi.providers.kubevirt.machines.folder import TPM, VARIABLES, kept_folder, list_kept_folders
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CLONES, CONTENTS, RESTORES, SNAPSHOTS, VOLUME_SNAPSHOTS
from pilvi.providers.storage.kinds import VOLUMES
from pilvi.runtime import find_condition, is_true
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.plane.test_kubevirt import put_network
from tests.plane.test_storage import OURS, is_bound, make_claim
from tests.unit.providers.kubevirt.fake_machines import FakeMachines


class FakeGuest(SandboxControl):
    """A guest whose agent freezes and thaws; `forgets` thaws it that often right after it was frozen, as an engine's death does."""

    def __init__(self) -> None:
        self.frozen, self.forgets = False, 0
        self.calls: list[str] = []

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        assert command == "guest-fsfreeze-status"
        return "frozen" if self.frozen else "thawed"

    async def freeze(self, uid: str, thaw_after_s: float) -> None:
        assert 0 < thaw_after_s <= 300
        self.calls.append("freeze")
        self.forgets -= 1
        self.frozen = self.forgets < 0

    async def thaw(self, uid: str) -> None:
        self.calls.append("thaw")
        self.frozen = False


class Machines(FakeMachines):
    name = "qemu"

    def __init__(self) -> None:
        super().__init__()
        self.control = self.guest = FakeGuest()


@pytest.fixture
def machines() -> Machines:
    return Machines()


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, machines: Machines, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with Client.open(plane.kubeconfig()) as client:
        await apply_all(client, [obj for obj in defaults() if obj["kind"] in OURS], manager="test")
    name = request.node.name.translate(str.maketrans("_[", "--", "]"))[-50:].strip("-")

    def build(platform: Any) -> Any:
        return [
            *storage.controllers(platform),
            *cdi.controllers(platform),
            *kubevirt.controllers(platform, {"qemu": machines}),
        ]

    async with on_plane(plane, name, tmp_path, build) as scene:
        yield scene


MACHINE: JsonObject = {
    "metadata": {"name": "web", "labels": {"app": "web", "team": "one"}},
    "spec": {
        "runStrategy": "Halted",
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "domain": {
                    "memory": {"guest": "64Mi"},
                    "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "one"},
                    "devices": {
                        "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                        "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:05"}],
                    },
                },
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [
                    {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}},
                    {"name": "scratch", "emptyDisk": {"capacity": "1Mi"}},
                ],
            },
        },
    },
}


async def put_machine(scene: Scene, data: bytes = b"before", **spec: Any) -> None:
    await scene.put(CLAIMS, make_claim())
    await scene.until(CLAIMS, "disk", is_bound)
    await write(scene, "disk", data)
    await scene.put(MACHINES, {**MACHINE, "spec": {**MACHINE["spec"], **spec}})


async def file_of(scene: Scene, claim: str) -> Path:
    stored = await scene.until(CLAIMS, claim, is_bound)
    folder = find_volume(await scene.client.get(VOLUMES, scene.key(stored["spec"]["volumeName"])._replace(namespace="")))
    assert folder is not None
    return volume_file(scene.platform.cloud, folder)


async def write(scene: Scene, claim: str, data: bytes) -> None:
    with (await file_of(scene, claim)).open("r+b") as disk:
        disk.write(data)


async def read(scene: Scene, claim: str, size: int = 6) -> bytes:
    return (await file_of(scene, claim)).read_bytes()[:size]


def snapshot(name: str = "snap", **spec: Any) -> JsonObject:
    source = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}
    return {"metadata": {"name": name}, "spec": {"source": source, **spec}}


def restore(name: str = "back", target: str = "web", of: str = "snap", **spec: Any) -> JsonObject:
    named = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": target}
    return {"metadata": {"name": name}, "spec": {"target": named, "virtualMachineSnapshotName": of, **spec}}


def status(field: str, value: Any = True) -> Any:
    return lambda obj: (obj.get("status") or {}).get(field) == value


def claim_of(vm: JsonObject) -> str:
    volume = vm["spec"]["template"]["spec"]["volumes"][0]
    assert list(volume) == ["name", "persistentVolumeClaim"]
    return str(volume["persistentVolumeClaim"]["claimName"])


async def test_a_machine_that_is_stopped_comes_back(scene: Scene) -> None:
    await put_machine(scene)
    await scene.until(MACHINES, "web", lambda vm: (vm.get("status") or {}).get("volumeSnapshotStatuses"))
    await scene.put(SNAPSHOTS, snapshot())
    taken = (await scene.until(SNAPSHOTS, "snap", status("readyToUse")))["status"]
    assert taken["phase"] == "Succeeded"
    assert taken["snapshotVolumes"] == {"includedVolumes": ["root"], "excludedVolumes": ["scratch"]}
    assert "indications" not in taken
    vm = await scene.until(MACHINES, "web", lambda vm: not vm["status"].get("snapshotInProgress"))
    assert [(each["name"], each["enabled"]) for each in vm["status"]["volumeSnapshotStatuses"]] == [("root", True), ("scratch", False)]
    await write(scene, "disk", b"after!")
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"template": {"spec": {"domain": {"memory": {"guest": "96Mi"}}}}}})

    await scene.put(RESTORES, restore())
    done = (await scene.until(RESTORES, "back", status("complete")))["status"]
    vm = await scene.until(MACHINES, "web", lambda vm: not vm["status"].get("restoreInProgress"))
    assert vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] == "64Mi"
    assert [entry["persistentVolumeClaim"] for entry in done["restores"]] == [claim_of(vm)]
    assert await read(scene, claim_of(vm)) == b"before"
    assert await read(scene, "disk") == b"after!", "the old claim is kept"
    assert (await scene.client.get(CLAIMS, scene.key(claim_of(vm))))["metadata"]["ownerReferences"][0]["uid"] == vm["metadata"]["uid"]

    await scene.put(RESTORES, restore("here", volumeRestorePolicy="InPlace"))
    await scene.until(RESTORES, "here", status("complete"))
    vm = await scene.client.get(MACHINES, scene.key("web"))
    assert claim_of(vm) == "disk"
    assert await read(scene, "disk") == b"before"

    await scene.client.delete(MACHINES, scene.key("web"))
    await scene.until_gone(RESTORES, "back")
    await scene.until_gone(CLAIMS, "disk")
    content = taken["virtualMachineSnapshotContentName"]
    await scene.client.delete(SNAPSHOTS, scene.key("snap"))
    await scene.until_gone(SNAPSHOTS, "snap")
    await scene.until_gone(CONTENTS, content)
    (copy,) = [entry["volumeSnapshotName"] for entry in done["restores"]]
    await scene.until_gone(VOLUME_SNAPSHOTS, copy)


@pytest.mark.parametrize("forgets", [0, 1])
async def test_a_guest_holds_still_while_all_is_copied(scene: Scene, machines: Machines, forgets: int) -> None:
    """Also when it did not the first time."""
    machines.guest.forgets = forgets
    await put_network(scene)
    await put_machine(scene, runStrategy="Always")
    vmi = await scene.until(INSTANCES, "web", lambda vmi: (vmi.get("status") or {}).get("phase") == "Running")
    uid = vmi["metadata"]["uid"]
    machines.states[uid] = replace(machines.states[uid], agent=True)
    machines.changed(uid)
    await scene.until(INSTANCES, "web", lambda vmi: is_true(vmi, "AgentConnected"))
    await scene.put(SNAPSHOTS, snapshot(deletionPolicy="Retain"))
    taken = await scene.until(SNAPSHOTS, "snap", status("readyToUse"))
    assert taken["status"]["indications"] == ["Online", "GuestAgent"]
    assert "whole" in taken["status"]["sourceIndications"][1]["message"]
    assert machines.guest.calls == ["freeze"] * (1 + forgets) + ["thaw"]
    assert not machines.guest.frozen

    await scene.put(RESTORES, restore("no", targetReadinessPolicy="FailImmediate"))
    refused = await scene.until(RESTORES, "no", lambda obj: is_true(obj, "Failure"))
    assert "must be powered off" in find_condition(refused, "Failure")["message"]  # type: ignore[index]
    await scene.put(RESTORES, restore(targetReadinessPolicy="StopTarget"))
    await scene.until(RESTORES, "back", status("complete"))
    vm = await scene.client.get(MACHINES, scene.key("web"))
    assert vm["spec"]["runStrategy"] == "Halted"
    assert await scene.client.find(INSTANCES, scene.key("web")) is None

    await scene.client.delete(SNAPSHOTS, scene.key("snap"))
    await scene.until_gone(SNAPSHOTS, "snap")
    assert (await scene.client.get(CONTENTS, scene.key(taken["status"]["virtualMachineSnapshotContentName"])))["status"]["readyToUse"]


async def test_a_clone_is_a_machine_of_its_own(scene: Scene) -> None:
    await put_machine(scene)
    cloud = scene.platform.cloud
    kept = kept_folder(cloud, (await scene.client.get(MACHINES, scene.key("web")))["metadata"]["uid"])
    kept.mkdir(parents=True)
    for name in (TPM, VARIABLES):
        (kept / name).write_text(f"{name} of web")
    source = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}
    target = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "second"}
    patch = json.dumps({"op": "replace", "path": "/spec/runStrategy", "value": "Manual"})
    spec = {"source": source, "target": target, "labelFilters": ["*", "!team"], "volumeNamePolicy": "PrefixTargetName", "patches": [patch]}
    await scene.put(CLONES, {"metadata": {"name": "copy"}, "spec": spec})
    done = await scene.until(CLONES, "copy", lambda obj: status("phase", "Succeeded")(obj) and "snapshotName" not in obj["status"])
    assert done["status"]["targetName"] == "second"
    vm = await scene.client.get(MACHINES, scene.key("second"))
    domain = vm["spec"]["template"]["spec"]["domain"]
    assert vm["metadata"]["labels"] == {"app": "web"}
    assert vm["spec"]["runStrategy"] == "Manual"
    assert domain["firmware"] == {}
    assert domain["devices"]["interfaces"] == [{"name": "default", "masquerade": {}}]
    assert claim_of(vm) == "second-root"
    assert await read(scene, "second-root") == b"before"
    await write(scene, "second-root", b"second")
    assert await read(scene, "disk") == b"before"
    (variables,) = kept_folder(cloud, vm["metadata"]["uid"]).iterdir()
    assert variables.read_text() == f"{VARIABLES} of web", "and a TPM of its own"
    uid = done["metadata"]["uid"]
    await scene.until_gone(RESTORES, f"tmp-restore-{uid}")
    await scene.until_gone(SNAPSHOTS, f"tmp-snapshot-{uid}")
    await scene.client.delete(MACHINES, scene.key("second"))
    await scene.until_gone(CLONES, "copy")
    assert list_kept_folders(cloud) == [kept.name]

    spec["target"]["name"] = "web2"
    spec["patches"] = ['{"op": "remove", "path": "/metadata/nothing"}']
    await scene.put(CLONES, {"metadata": {"name": "wrong"}, "spec": spec})
    told = await scene.until(CLONES, "wrong", lambda obj: "there is no 'nothing'" in str(find_condition(obj, "Ready")))
    assert told["status"]["phase"] == "RestoreInProgress"
    await scene.client.delete(CLONES, scene.key("wrong"))
    await scene.until_gone(CLONES, "wrong")
    await scene.until_gone(CLAIMS, "web2-root")


async def test_what_cannot_be_made_says_why(scene: Scene) -> None:
    await scene.put(SNAPSHOTS, snapshot("early", failureDeadline="0"))
    early = await scene.until(SNAPSHOTS, "early", lambda obj: find_condition(obj, "Progressing"))
    assert find_condition(early, "Progressing")["reason"] == "Source does not exist"  # type: ignore[index]
    await scene.put(MACHINES, MACHINE)
    await scene.put(SNAPSHOTS, snapshot("late", failureDeadline="1s"))
    late = await scene.until(SNAPSHOTS, "late", status("phase", "Failed"))
    assert find_condition(late, "Failure")["reason"] == "snapshot deadline exceeded"  # type: ignore[index]
    await scene.put(RESTORES, restore(of="late"))
    await scene.until(RESTORES, "back", lambda obj: "failed and is invalid" in str(find_condition(obj, "Failure")))
    await scene.put(RESTORES, restore("lost", of="nothing"))
    await scene.until(RESTORES, "lost", lambda obj: "does not exist" in str(find_condition(obj, "Ready")))
    told = await scene.until(SNAPSHOTS, "early", lambda obj: "PVC not found" in str(obj["status"].get("error")))
    assert told["status"]["phase"] == "InProgress"
    await scene.put(CLAIMS, make_claim())
    await scene.until(SNAPSHOTS, "early", status("readyToUse"))
    for kind, wrong, words in (
        (SNAPSHOTS, snapshot("x", failureDeadline="soon"), "such as 30s"),
        (SNAPSHOTS, snapshot("x", deletionPolicy="Keep"), "not one of Delete, Retain"),
        (RESTORES, restore("x", volumeRestorePolicy="Here"), "is not one of"),
        (CLONES, {"metadata": {"name": "x"}, "spec": {"source": {"kind": "Pod", "name": "x"}}}, "VirtualMachineSnapshot"),
    ):
        with pytest.raises(Invalid, match=words):
            await scene.put(kind, wrong)
    with pytest.raises(Invalid, match="make a new VirtualMachineSnapshot"):
        await scene.client.patch(SNAPSHOTS, scene.key("late"), {"spec": {"failureDeadline": "5m"}})
