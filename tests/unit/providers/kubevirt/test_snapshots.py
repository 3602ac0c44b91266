"""What snapshots, restores and clones plan, object by object."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import UserError
from pilvi.kube import Client
from pilvi.providers.kubevirt.clone.plan import kept_keys, plan_patches, restore_of, snapshot_of, target_key
from pilvi.providers.kubevirt.restore.plan import (
    LAST_RESTORE,
    OWNED_LATER,
    changed_machine,
    claim_of,
    new_machine,
    obsolete_data_volumes,
    plan_restores,
)
from pilvi.providers.kubevirt.snapshot.kinds import CONTENTS
from pilvi.providers.kubevirt.snapshot.plan import content_of, deletes_content, left_s, volume_snapshot_of
from pilvi.providers.kubevirt.snapshot.revisions import share_revisions
from pilvi.providers.kubevirt.snapshot.status import WORKING, Progress, content_status, snapshot_status
from pilvi.providers.kubevirt.snapshot.volumes import MachineVolume
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi

CREATED = "2026-01-01T00:00:00Z"
SNAPSHOT: JsonObject = {
    "metadata": {"name": "snap", "namespace": "shop", "uid": "s-uid", "creationTimestamp": CREATED},
    "spec": {"source": {"kind": "VirtualMachine", "name": "web"}},
}
TEMPLATE: JsonObject = {"metadata": {"name": "data"}, "spec": {"source": {"blank": {}}}}
VM: JsonObject = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachine",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "vm-uid",
        "resourceVersion": "7",
        "labels": {"app": "web", "a/b~c": "x"},
        "annotations": {LAST_RESTORE: "older", "note": "kept"},
        "managedFields": [],
    },
    "spec": {
        "runStrategy": "Manual",
        "dataVolumeTemplates": [TEMPLATE],
        "instancetype": {"name": "small"},
        "template": {
            "metadata": {"labels": {"tier": "front"}, "annotations": {"ovn.kubernetes.io/ip_address": "10.9.0.5", "kept": "1"}},
            "spec": {
                "domain": {
                    "firmware": {"uuid": "u", "serial": "one"},
                    "devices": {"interfaces": [{"name": "a", "macAddress": "02:00:00:00:00:01"}, {"name": "b"}]},
                },
                "volumes": [
                    {"name": "root", "persistentVolumeClaim": {"claimName": "disk", "hotpluggable": True}},
                    {"name": "data", "dataVolume": {"name": "data"}},
                    {"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
                ],
            },
        },
    },
    "status": {"instancetypeRef": {"controllerRevisionRef": {"name": "small-v1"}}},
}


def claim(name: str, **metadata: Any) -> JsonObject:
    annotations = {"pv.kubernetes.io/bind-completed": "yes", "pilvi.dev/populated": "true", "mine": "kept"}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"{name}-uid",
            "annotations": annotations,
            "resourceVersion": "3",
            **metadata,
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "local",
            "volumeMode": "Block",
            "volumeName": "pvc-1",
        },
    }


DATA_VOLUME = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "name": "data", "uid": "dv-uid", "controller": True}
CONTENT = content_of(
    SNAPSHOT,
    VM,
    [
        MachineVolume("root", claim("disk")),
        MachineVolume("data", claim("data", ownerReferences=[DATA_VOLUME])),
        MachineVolume("seed", reason="x"),
    ],
)


def restore(target: str = "web", **spec: Any) -> JsonObject:
    named = {"kind": "VirtualMachine", "name": target}
    return {
        "metadata": {"name": "back", "namespace": "shop", "uid": "r-uid"},
        "spec": {"target": named, "virtualMachineSnapshotName": "snap", **spec},
    }


def clone(**spec: Any) -> JsonObject:
    return {
        "metadata": {"name": "copy", "namespace": "shop", "uid": "c-uid"},
        "spec": {"source": {"kind": "VirtualMachine", "name": "web"}, **spec},
    }


def test_a_content_holds_the_machine_and_what_is_copied() -> None:
    kept = CONTENT["spec"]["source"]["virtualMachine"]
    assert set(kept["metadata"]) == {"name", "namespace", "uid", "labels", "annotations"}
    assert kept["spec"]["instancetype"] == {"name": "small", "revisionName": "small-v1"}
    assert VM["spec"]["instancetype"] == {"name": "small"}
    assert [backup["volumeName"] for backup in CONTENT["spec"]["volumeBackups"]] == ["root", "data"]
    stored = {**CONTENT, "metadata": {**CONTENT["metadata"], "uid": "content-uid"}}
    wanted = volume_snapshot_of(stored, CONTENT["spec"]["volumeBackups"][0])
    assert wanted["metadata"]["name"] == "vmsnapshot-s-uid-volume-root"
    assert wanted["spec"] == {"source": {"persistentVolumeClaimName": "disk"}}
    assert wanted["metadata"]["ownerReferences"][0]["uid"] == "content-uid"


@pytest.mark.parametrize(("text", "left"), [(None, 240), ("90s", 30), ("30s", -30), ("0", None), ("0s", None), ("1h", 3540)])
def test_deadlines(text: str | None, left: float | None) -> None:
    spec = {**SNAPSHOT["spec"], **({"failureDeadline": text} if text is not None else {})}
    assert left_s({**SNAPSHOT, "spec": spec}, datetime(2026, 1, 1, 0, 1, tzinfo=UTC)) == left


@pytest.mark.parametrize(
    ("policy", "ready", "goes"), [(None, True, True), ("Delete", True, True), ("Retain", True, False), ("Retain", False, True)]
)
def test_what_is_kept_of_a_snapshot_that_is_deleted(policy: str | None, ready: bool, goes: bool) -> None:
    snapshot = {**SNAPSHOT, "spec": {**SNAPSHOT["spec"], "deletionPolicy": policy}}
    assert deletes_content(snapshot, {**CONTENT, "status": {"readyToUse": ready}}) is goes


def copied(name: str, **status: Any) -> JsonObject:
    return {"metadata": {"name": name}, "status": status}


@pytest.mark.parametrize(
    ("copies", "missing", "created", "ready", "error"),
    [
        ([], [], False, True, ""),
        ([copied("a", creationTime=CREATED, readyToUse=True)], [], False, True, ""),
        ([copied("a", readyToUse=False)], [], False, False, ""),
        ([copied("a", error={"message": "no room"})], [], False, False, "VolumeSnapshot a error: no room"),
        ([copied("a", creationTime=CREATED, readyToUse=True)], ["b"], True, False, "VolumeSnapshots (b) missing"),
        ([copied("a", creationTime=CREATED, readyToUse=True)], ["b"], False, False, ""),
    ],
)
def test_what_a_content_says(copies: list[JsonObject], missing: list[str], created: bool, ready: bool, error: str) -> None:
    content = {**CONTENT, "status": {"creationTime": CREATED} if created else {}}
    status = content_status(content, copies, missing)
    assert status["readyToUse"] is ready
    assert (status.get("error") or {}).get("message", "").startswith(error)
    assert bool(error) is ("error" in status)


def test_what_a_snapshot_says_from_its_beginning_to_its_end() -> None:
    begun = snapshot_status(SNAPSHOT, vm=VM, content=None, progress=Progress(WORKING, "wait"))
    assert (begun["phase"], begun["readyToUse"], begun["sourceUID"]) == ("InProgress", False, "vm-uid")
    content = {**CONTENT, "status": {"creationTime": CREATED, "readyToUse": True}}
    made = {**SNAPSHOT, "status": begun}
    done = snapshot_status(made, vm=VM, content=content, progress=Progress(WORKING, ""), indications=["Online", "NoGuestAgent"])
    assert done["phase"] == "Succeeded"
    assert done["snapshotVolumes"] == {"includedVolumes": ["root", "data"], "excludedVolumes": ["seed"]}
    assert done["indications"] == ["Online", "NoGuestAgent"]
    assert "power cut" in done["sourceIndications"][1]["message"]
    assert find_condition({"status": done}, "Ready")["reason"] == "Ready"  # type: ignore[index]
    partial = copy.deepcopy(content)
    partial["spec"]["volumeBackups"].pop()
    told = snapshot_status(made, vm=VM, content=partial, progress=Progress(WORKING, ""))
    assert told["indications"] == ["PartialSnapshot"]
    late = snapshot_status(made, vm=VM, content=CONTENT, progress=Progress(WORKING, "not in time"), failed=True)
    assert (late["phase"], find_condition({"status": late}, "Failure")["message"]) == ("Failed", "not in time")  # type: ignore[index]
    wrong = {**CONTENT, "status": {"error": {"message": "no room"}}}
    assert snapshot_status(made, vm=VM, content=wrong, progress=Progress(WORKING, ""))["error"] == {"message": "no room"}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, ["restore-r-uid-root", "restore-r-uid-data"]),
        ({"volumeRestorePolicy": "PrefixTargetName"}, ["web-root", "web-data"]),
        ({"volumeRestorePolicy": "InPlace"}, ["disk", "data"]),
        ({"volumeRestoreOverrides": [{"volumeName": "data", "restoreName": "mine"}]}, ["restore-r-uid-root", "mine"]),
    ],
)
def test_names_of_new_claims(spec: JsonObject, names: list[str]) -> None:
    entries = plan_restores(restore(**spec), CONTENT, [])
    assert [entry["persistentVolumeClaim"] for entry in entries] == names
    assert [entry["volumeSnapshotName"] for entry in entries] == ["vmsnapshot-s-uid-volume-root", "vmsnapshot-s-uid-volume-data"]


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    long = [plan_restores(restore(f"{'x' * 60}{end}", volumeRestorePolicy="PrefixTargetName"), CONTENT, []) for end in "ab"]
    names = {entries[0]["persistentVolumeClaim"] for entries in long}
    assert len(names) == 2
    assert {len(name) for name in names} == {63}


def test_a_new_claim() -> None:
    override = {"volumeName": "data", "labels": {"l": "1"}, "annotations": {"a": "1", LAST_RESTORE: "forged"}}
    asked = restore(volumeRestoreOverrides=[override])
    entries = plan_restores(asked, CONTENT, [])
    made = claim_of(asked, CONTENT, entries[1], size="2Gi", vm=None, data_volume=None)
    assert made["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local",
        "volumeMode": "Block",
        "resources": {"requests": {"storage": "2Gi"}},
        "dataSource": made["spec"]["dataSourceRef"],
        "dataSourceRef": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "vmsnapshot-s-uid-volume-data"},
    }
    assert made["metadata"]["labels"]["l"] == "1"
    told = {"mine": "kept", "a": "1", "restore.kubevirt.io/name": "back", LAST_RESTORE: "back-r-uid", OWNED_LATER: "back"}
    assert made["metadata"]["annotations"] == told
    assert "ownerReferences" not in made["metadata"]
    of_machine = claim_of(asked, CONTENT, entries[0], size="1Mi", vm=VM, data_volume=None)
    assert of_machine["spec"]["resources"]["requests"] == {"storage": "1Gi"}
    assert of_machine["metadata"]["ownerReferences"][0]["uid"] == "vm-uid"
    free = claim_of(restore(volumeOwnershipPolicy="None"), CONTENT, entries[1], size=None, vm=VM, data_volume=None)
    assert "ownerReferences" not in free["metadata"]
    assert OWNED_LATER not in free["metadata"]["annotations"]


def test_a_machine_gets_its_new_claims_and_keeps_what_says_whether_it_runs() -> None:
    asked = restore()
    now = copy.deepcopy(VM)
    now["spec"]["template"]["spec"]["domain"] = {}
    now["spec"]["runStrategy"] = "Halted"
    changed = changed_machine(asked, CONTENT, plan_restores(asked, CONTENT, []), now)
    assert changed["spec"]["runStrategy"] == "Halted"
    assert changed["spec"]["template"]["spec"]["domain"]["firmware"]["serial"] == "one"
    assert changed["spec"]["template"]["spec"]["volumes"] == [
        {"name": "root", "persistentVolumeClaim": {"claimName": "restore-r-uid-root", "hotpluggable": True}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "restore-r-uid-data"}},
        {"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
    ]
    assert "dataVolumeTemplates" not in changed["spec"], "or the disk would be filled anew"
    assert obsolete_data_volumes(now, changed) == ["data"]
    assert changed["metadata"]["resourceVersion"] == "7"
    assert changed["metadata"]["annotations"] == {LAST_RESTORE: "back-r-uid", "note": "kept"}


def test_in_place_a_data_volume_keeps_its_claim() -> None:
    asked = restore(volumeRestorePolicy="InPlace")
    entries = plan_restores(asked, CONTENT, [claim("disk"), claim("data", ownerReferences=[DATA_VOLUME])])
    assert [entry.get("dataVolumeName") for entry in entries] == [None, "data"]
    changed = changed_machine(asked, CONTENT, entries, VM)
    assert changed["spec"]["template"]["spec"]["volumes"] == VM["spec"]["template"]["spec"]["volumes"]
    assert obsolete_data_volumes(VM, changed) == []
    owner = {"metadata": {"name": "data", "uid": "dv-uid"}}
    made = claim_of(asked, CONTENT, entries[1], size=None, vm=VM, data_volume=owner)
    assert [(each["kind"], each["uid"], each["controller"]) for each in made["metadata"]["ownerReferences"]] == [
        ("DataVolume", "dv-uid", True)
    ]


def test_a_machine_that_is_made() -> None:
    patches = ['{"op": "replace", "path": "/metadata/labels", "value": {"new": "1"}}', '{"op": "remove", "path": "/metadata/annotations"}']
    asked = restore("other", patches=patches)
    made = new_machine(asked, CONTENT, plan_restores(asked, CONTENT, []))
    assert made["metadata"] == {
        "name": "other",
        "namespace": "shop",
        "labels": {"new": "1"},
        "annotations": {LAST_RESTORE: "back-r-uid"},
    }
    assert made["spec"]["runStrategy"] == "Halted"


@pytest.mark.parametrize("patch", ["no json", "[]", '{"op": "remove", "path": "/spec/nothing"}', '{"op": "fly", "path": "/spec"}', "{}"])
def test_patches_that_do_not_fit_are_named(patch: str) -> None:
    asked = restore("other", patches=[patch])
    with pytest.raises(UserError, match=r"spec\.patches\[0\]"):
        new_machine(asked, CONTENT, [])


async def test_a_revision_stays_as_long_as_anybody_names_it(fake_api: FakeApi) -> None:
    revisions = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
    path = revisions.object_path(Key("shop", "small-v1"))
    fake_api.put(path, revisions.new(Key("shop", "small-v1"), metadata={"ownerReferences": [{"kind": "VirtualMachine", "uid": "vm-uid"}]}))
    content = {**CONTENT, "metadata": {**CONTENT["metadata"], "uid": "content-uid"}}
    named = {"instancetype": {"revisionName": "small-v1"}, "preference": {"revisionName": "../../../secrets/x"}}
    async with Client.open(fake_api.kubeconfig) as client:
        for _ in range(2):
            await share_revisions(client, named, CONTENTS, content)
        await share_revisions(client, {"preference": {"revisionName": "gone"}}, CONTENTS, content)
    owners = fake_api.objects[path]["metadata"]["ownerReferences"]
    assert [(owner["uid"], bool(owner.get("controller"))) for owner in owners] == [("vm-uid", False), ("content-uid", False)]
    assert not any("secrets" in asked for _, asked in fake_api.requests)


def test_a_clone_is_another_machine() -> None:
    wanted = [
        {"op": "remove", "path": "/spec/template/spec/domain/devices/interfaces/0/macAddress"},
        {"op": "remove", "path": "/spec/template/spec/domain/firmware/uuid"},
        {"op": "remove", "path": "/spec/template/spec/domain/firmware/serial"},
        {"op": "remove", "path": "/spec/template/metadata/annotations/ovn.kubernetes.io~1ip_address"},
    ]
    assert plan_patches(clone(), VM) == wanted
    chosen = plan_patches(clone(newMacAddresses={"b": "02:00:00:00:00:02"}, newSMBiosSerial="two"), VM)
    assert chosen[1] == {"op": "add", "path": "/spec/template/spec/domain/devices/interfaces/1/macAddress", "value": "02:00:00:00:00:02"}
    assert chosen[-2] == {"op": "add", "path": "/spec/template/spec/domain/firmware/serial", "value": "two"}
    with pytest.raises(UserError, match="does not have: c") as caught:
        plan_patches(clone(newMacAddresses={"c": "02:00:00:00:00:02"}), VM)
    assert caught.value.hint == "its interfaces are: a, b"


def test_filters_remove_what_they_do_not_match() -> None:
    filters = {"labelFilters": ["^app"], "annotationFilters": ["*", "!note"], "template": {"labelFilters": ["!tier"]}}
    paths = [patch["path"] for patch in plan_patches(clone(**filters), VM)[3:-1]]
    assert paths == ["/metadata/labels/a~1b~0c", "/metadata/annotations/note", "/spec/template/metadata/labels/tier"]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (None, {"a", "ab", "b"}),
        ([], {"a", "ab", "b"}),
        (["*"], {"a", "ab", "b"}),
        (["^a"], {"a", "ab"}),
        (["*", "!^b"], {"a", "ab"}),
        (["!a"], set()),
    ],
)
def test_filters(filters: list[str] | None, kept: set[str]) -> None:
    assert kept_keys(["a", "ab", "b"], filters) == kept
    with pytest.raises(UserError, match="no regular expression"):
        kept_keys(["a"], ["("])


def test_the_objects_that_make_a_clone() -> None:
    made = restore_of(clone(volumeNamePolicy="PrefixTargetName", patches=["{}"]), VM)
    assert snapshot_of(clone())["metadata"]["name"] == "tmp-snapshot-c-uid"
    assert made["metadata"]["ownerReferences"][0]["kind"] == "VirtualMachineClone"
    assert made["spec"]["virtualMachineSnapshotName"] == "tmp-snapshot-c-uid"
    assert made["spec"]["volumeRestorePolicy"] == "PrefixTargetName"
    assert made["spec"]["patches"][-1] == "{}"
    name = target_key(clone()).name
    assert name.startswith("clone-web-")
    assert made["spec"]["target"]["name"] == name == target_key(clone()).name
    of_snapshot = clone(source={"kind": "VirtualMachineSnapshot", "name": "snap"}, target={"kind": "VirtualMachine", "name": "third"})
    assert restore_of(of_snapshot, VM)["spec"]["virtualMachineSnapshotName"] == "snap"
    assert target_key(of_snapshot).name == "third"
