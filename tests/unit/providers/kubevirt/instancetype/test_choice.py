"""Machines with an instancetype and a preference on a small API server: what is copied when, and what a machine waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from pilvi.api import JsonObject
from pilvi.api.builtin import CONTROLLER_REVISIONS
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, INSTANCES, INSTANCETYPES, MACHINES
from pilvi.providers.kubevirt.virtualmachine.instance import TEMPLATE_HASH, template_hash
from pilvi.runtime import find_condition
from tests.fake_api import FakeApi, status_response
from tests.unit.providers.checked import refusals, warnings
from tests.unit.providers.kubeovn.objects import CLOUD
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.stage import Stage, on_stage

SMALL: JsonObject = {"cpu": {"guest": 1}, "memory": {"guest": "1Gi"}}
LARGE: JsonObject = {"cpu": {"guest": 4}, "memory": {"guest": "4Gi"}}


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": FakeMachines()})) as stage:
        yield stage


def machine(**spec: Any) -> JsonObject:
    vm = make_vm("Always")
    del vm["metadata"]["uid"], vm["status"]
    del vm["spec"]["template"]["spec"]["domain"]["cpu"], vm["spec"]["template"]["spec"]["domain"]["memory"]
    del vm["spec"]["template"]["spec"]["domain"]["resources"]
    vm["spec"] |= spec
    return vm


def put_type(stage: Stage, spec: JsonObject, name: str = "small") -> JsonObject:
    return stage.put(CLUSTER_INSTANCETYPES, {"metadata": {"name": name}, "spec": spec})


def status(stage: Stage) -> JsonObject:
    found: JsonObject = stage.get(MACHINES, "web", "shop").get("status") or {}
    return found


def revisions(stage: Stage) -> list[JsonObject]:
    return [obj for path, obj in stage.api.objects.items() if "/controllerrevisions/" in path]


async def instance(stage: Stage) -> JsonObject:
    await stage.until(lambda: stage.find(INSTANCES, "web", "shop"), "the instance")
    await stage.settled()
    return stage.get(INSTANCES, "web", "shop")


def change(stage: Stage, **spec: Any) -> None:
    vm = stage.get(MACHINES, "web", "shop")
    stage.put(MACHINES, {**vm, "spec": {**vm["spec"], **spec}})


def failure(stage: Stage) -> tuple[str, str] | None:
    found = find_condition(stage.get(MACHINES, "web", "shop"), "Failure")
    return (found["reason"], found["message"]) if found else None


async def test_a_machine_keeps_a_copy(stage: Stage) -> None:
    small = put_type(stage, SMALL)
    stage.put(CLUSTER_PREFERENCES, {"metadata": {"name": "linux"}, "spec": {"devices": {"preferredDiskBus": "scsi"}}})
    stage.put(MACHINES, machine(instancetype={"name": "small"}, preference={"name": "linux"}))
    vmi = await instance(stage)
    assert vmi["spec"]["domain"]["memory"]["guest"] == "1Gi"
    assert vmi["spec"]["domain"]["cpu"]["sockets"] == 1
    assert vmi["metadata"]["annotations"]["kubevirt.io/cluster-instancetype-name"] == "small"
    assert vmi["metadata"]["annotations"]["kubevirt.io/cluster-preference-name"] == "linux"
    (copy, _) = revisions(stage)
    name = f"web-small-v1beta1-{small['metadata']['uid']}-1"
    assert copy["metadata"]["name"] == name
    assert copy["metadata"]["labels"]["instancetype.kubevirt.io/object-kind"] == "VirtualMachineClusterInstancetype"
    assert copy["metadata"]["ownerReferences"][0]["uid"] == stage.get(MACHINES, "web", "shop")["metadata"]["uid"]
    assert copy["data"]["spec"] == SMALL
    assert status(stage)["instancetypeRef"] == {
        "name": "small",
        "kind": "VirtualMachineClusterInstancetype",
        "controllerRevisionRef": {"name": name},
    }
    put_type(stage, LARGE)
    stage.api.remove("/apis/kubevirt.io/v1/namespaces/shop/virtualmachineinstances/web")
    await stage.settled()
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "1Gi", "an edit changes nothing"
    change(stage, instancetype={"name": "large"})
    put_type(stage, LARGE, "large")
    await stage.until(lambda: status(stage)["instancetypeRef"]["name"] == "large", "the other name")
    started_with = stage.get(INSTANCES, "web", "shop")["metadata"]["annotations"][TEMPLATE_HASH]
    assert template_hash(stage.get(MACHINES, "web", "shop")) != started_with, "it shows that a restart would change something"


async def test_what_status_says_can_be_cleared(stage: Stage) -> None:
    put_type(stage, SMALL)
    stage.put(MACHINES, machine(instancetype={"name": "small"}, runStrategy="Halted"))
    await stage.until(lambda: status(stage).get("instancetypeRef"), "the copy")
    put_type(stage, LARGE)
    await stage.settled()
    assert len(revisions(stage)) == 1
    vm = stage.get(MACHINES, "web", "shop")
    stage.put(MACHINES, {**vm, "status": {name: value for name, value in vm["status"].items() if name != "instancetypeRef"}})
    await stage.until(lambda: len(revisions(stage)) == 2, "a copy of what is now")
    change(stage, runStrategy="Always")
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "4Gi"
    stage.api.remove("/apis/kubevirt.io/v1/namespaces/shop/virtualmachines/web")
    await stage.settled()


async def test_without_a_name_any_more_status_forgets(stage: Stage) -> None:
    put_type(stage, SMALL)
    stage.put(MACHINES, machine(instancetype={"name": "small"}, runStrategy="Halted"))
    await stage.until(lambda: status(stage).get("instancetypeRef"), "the copy")
    vm = stage.get(MACHINES, "web", "shop")
    spec = {name: value for name, value in vm["spec"].items() if name != "instancetype"}
    stage.put(MACHINES, {**vm, "spec": spec})
    await stage.until(lambda: "instancetypeRef" not in status(stage), "it to be forgotten")


async def test_a_named_revision_is_taken(stage: Stage) -> None:
    data = {
        "apiVersion": "instancetype.kubevirt.io/v1beta1",
        "kind": "VirtualMachineInstancetype",
        "metadata": {"name": "s"},
        "spec": LARGE,
    }
    stage.put(CONTROLLER_REVISIONS, {"metadata": {"name": "old-copy", "namespace": "shop"}, "revision": 0, "data": data})
    stage.put(MACHINES, machine(instancetype={"name": "s", "kind": "virtualmachineinstancetype", "revisionName": "old-copy"}))
    vmi = await instance(stage)
    assert vmi["spec"]["domain"]["cpu"]["sockets"] == 4
    assert vmi["metadata"]["annotations"]["kubevirt.io/instancetype-name"] == "s"
    assert status(stage)["instancetypeRef"]["controllerRevisionRef"] == {"name": "old-copy"}
    assert len(revisions(stage)) == 1


async def test_a_revision_of_something_else_is_refused(stage: Stage) -> None:
    stage.put(CONTROLLER_REVISIONS, {"metadata": {"name": "other", "namespace": "shop"}, "data": {"kind": "Other"}})
    stage.put(MACHINES, machine(instancetype={"name": "s", "revisionName": "other"}))
    reason, message = await stage.until(lambda: failure(stage), "a failure")
    assert (reason, "holds no instancetype" in message) == ("FailedFindInstancetype", True)
    assert stage.find(INSTANCES, "web", "shop") is None


@pytest.mark.parametrize("spec", [{"cpu": {}, "memory": {"guest": "1Gi"}}, {"cpu": {"guest": "many"}}, None])
async def test_a_revision_that_holds_nonsense_is_refused(stage: Stage, spec: JsonObject | None) -> None:
    data = {"kind": "VirtualMachineInstancetype", "spec": spec}
    stage.put(CONTROLLER_REVISIONS, {"metadata": {"name": "odd", "namespace": "shop"}, "data": data})
    stage.put(MACHINES, machine(instancetype={"name": "s", "revisionName": "odd"}))
    _, message = await stage.until(lambda: failure(stage), "a failure")
    assert "the ControllerRevision odd holds no valid instancetype: " in message


async def test_a_name_leads_nowhere_else(stage: Stage) -> None:
    stage.put(INSTANCETYPES, {"metadata": {"name": "small", "namespace": "other"}, "spec": SMALL})
    name = "x/../../../other/virtualmachineinstancetypes/small"
    stage.put(MACHINES, machine(instancetype={"name": name, "kind": "VirtualMachineInstancetype"}))
    reason, _ = await stage.until(lambda: failure(stage), "a failure")
    assert reason == "FailedFindInstancetype"


async def test_a_copy_that_is_refused_says_so(stage: Stage) -> None:
    def refuse(request: web.Request) -> web.StreamResponse | None:
        return status_response(403, "Forbidden") if request.method == "POST" and "/controllerrevisions" in request.path else None

    put_type(stage, SMALL)
    stage.api.faults.append(refuse)  # others write too, and a refusal of one moment could be over before it is looked at
    stage.put(MACHINES, machine(instancetype={"name": "small"}))
    reason, message = await stage.until(lambda: failure(stage), "a failure")
    assert (reason, "the copy of instancetype small cannot be stored" in message) == ("FailedCreate", True)
    stage.api.faults.remove(refuse)
    await instance(stage)


async def test_a_machine_waits_for_its_instancetype(stage: Stage) -> None:
    stage.put(MACHINES, machine(instancetype={"name": "small", "kind": "VirtualMachineInstancetype"}))
    reason, message = await stage.until(lambda: failure(stage), "a failure")
    assert reason == "FailedFindInstancetype"
    assert 'virtualmachineinstancetypes.instancetype.kubevirt.io "small" not found' in message
    stage.put(INSTANCETYPES, {"metadata": {"name": "small", "namespace": "other"}, "spec": LARGE})
    await stage.settled()
    assert stage.find(INSTANCES, "web", "shop") is None, "that one is not of its namespace"
    stage.put(INSTANCETYPES, {"metadata": {"name": "small", "namespace": "shop"}, "spec": SMALL})
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "1Gi"
    assert failure(stage) is None


async def test_a_conflict_is_not_copied_and_can_be_mended(stage: Stage) -> None:
    put_type(stage, SMALL)
    vm = machine(instancetype={"name": "small"})
    vm["spec"]["template"]["spec"]["domain"]["memory"] = {"guest": "2Gi"}
    stage.put(MACHINES, vm)
    reason, message = await stage.until(lambda: failure(stage), "a failure")
    assert reason == "FailedCreate"
    assert message.startswith("VM field(s) spec.template.spec.domain.memory.guest conflicts with selected instance type; ")
    assert revisions(stage) == []
    vm = stage.get(MACHINES, "web", "shop")
    del vm["spec"]["template"]["spec"]["domain"]["memory"]
    stage.put(MACHINES, {**vm, "spec": {**vm["spec"], "another": "generation"}})
    await instance(stage)


async def test_what_is_missing_does_not_keep_a_machine_from_stopping(stage: Stage) -> None:
    put_type(stage, SMALL)
    stage.put(MACHINES, machine(instancetype={"name": "small"}))
    await instance(stage)
    change(stage, instancetype={"name": "gone"}, runStrategy="Halted")
    await stage.until(lambda: stage.find(INSTANCES, "web", "shop") is None, "the end of the instance")
    assert (failure(stage) or ("",))[0] == "FailedFindInstancetype"


@pytest.mark.parametrize("number", range(1, 9))
async def test_every_write_may_fail_once(stage: Stage, number: int) -> None:
    stage.fail_write(number, 500, "InternalError", but="")
    put_type(stage, SMALL)
    stage.put(MACHINES, machine(instancetype={"name": "small"}))
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "1Gi"
    assert len(revisions(stage)) == 1


LABEL = "instancetype.kubevirt.io/default-instancetype"


def with_claim(vm: JsonObject) -> JsonObject:
    vm["spec"]["template"]["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "disk"}})
    return vm


async def test_a_volume_says_the_name(stage: Stage) -> None:
    put_type(stage, SMALL)
    matcher = {"inferFromVolume": "data"}
    stage.put(MACHINES, with_claim(machine(instancetype=matcher)))
    reason, message = await stage.until(lambda: failure(stage), "a failure")
    assert (reason, "PersistentVolumeClaim shop/disk is not there" in message) == ("FailedFindInstancetype", True)
    stage.put(CLAIMS, {"metadata": {"name": "disk", "namespace": "shop", "labels": {LABEL: "small"}}, "spec": {}})
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "1Gi"
    ref = status(stage)["instancetypeRef"]
    assert (ref["name"], ref["inferFromVolume"]) == ("small", "data")
    assert stage.get(MACHINES, "web", "shop")["spec"]["instancetype"] == matcher, "what the user wrote stays"


async def test_a_volume_that_says_nothing_may_be_ignored(stage: Stage) -> None:
    stage.put(CLAIMS, {"metadata": {"name": "disk", "namespace": "shop"}, "spec": {}})
    vm = with_claim(machine(instancetype={"inferFromVolume": "data", "inferFromVolumeFailurePolicy": "Ignore"}))
    vm["spec"]["template"]["spec"]["domain"]["memory"] = {"guest": "2Gi"}
    stage.put(MACHINES, vm)
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "2Gi"
    assert status(stage)["instancetypeRef"] == {"inferFromVolume": "data", "inferFromVolumeFailurePolicy": "Ignore"}


async def test_memory_for_a_volume_that_says_nothing_gives_way(stage: Stage) -> None:
    put_type(stage, SMALL)
    stage.put(CLAIMS, {"metadata": {"name": "disk", "namespace": "shop", "labels": {LABEL: "small"}}, "spec": {}})
    vm = with_claim(machine(instancetype={"inferFromVolume": "data", "inferFromVolumeFailurePolicy": "Ignore"}))
    vm["spec"]["template"]["spec"]["domain"]["memory"] = {"guest": "2Gi"}
    stage.put(MACHINES, vm)
    assert (await instance(stage))["spec"]["domain"]["memory"]["guest"] == "1Gi"


def cluster_type(spec: JsonObject, kind: str = "VirtualMachineClusterInstancetype") -> JsonObject:
    return {"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": {"name": "small"}, "spec": spec}


def test_conflicts_are_refused_before_they_are_stored() -> None:
    vm = make_vm()
    vm["spec"]["instancetype"] = {"name": "small"}
    (message,) = refusals(kubevirt, CLOUD, vm, cluster_type(SMALL))
    assert "spec.template.spec.domain.cpu.cores" in message
    assert "conflicts with selected instance type" in message
    assert refusals(kubevirt, CLOUD, machine(instancetype={"name": "small"}), cluster_type(SMALL)) == []
    asked = {"requirements": {"memory": {"guest": "8Gi"}}}
    less = machine(instancetype={"name": "small"}, preference={"name": "small"})
    (message,) = refusals(kubevirt, CLOUD, less, cluster_type(SMALL), cluster_type(asked, "VirtualMachineClusterPreference"))
    assert "insufficient Memory resources of 1Gi provided by instance type, preference requires 8Gi" in message


def test_what_is_not_there_yet_is_a_warning() -> None:
    vm = machine(instancetype={"name": "small", "kind": "VirtualMachineInstancetype"})
    assert refusals(kubevirt, CLOUD, vm) == []
    (message,) = warnings(kubevirt, CLOUD, vm)
    assert message == "spec.instancetype: there is no VirtualMachineInstancetype small yet; the machine starts once it is there"
