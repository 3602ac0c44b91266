"""Instancetypes, preferences and replica sets on a real API server: owners, garbage collection, strict schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CONTROLLER_REVISIONS
from pilvi.plane import machine_types
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, INSTANCES, INSTANCETYPES, MACHINES, REPLICA_SETS
from pilvi.runtime import find_condition
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.kubevirt.replicaset.test_plan import make_set


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    name = request.node.name.replace("_", "-")[:50].strip("-")
    async with on_plane(plane, name, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": FakeMachines()})) as scene:
        yield scene


def machine(**spec: Any) -> JsonObject:
    vm = make_vm()
    del vm["status"]
    vm["spec"]["template"]["spec"]["domain"] = {"devices": {}}
    vm["spec"] |= spec
    return vm


async def test_what_every_cloud_begins_with_is_taken_as_it_is(scene: Scene) -> None:
    await machine_types.create_missing(scene.client)
    for resource, made in ((CLUSTER_INSTANCETYPES, machine_types.instancetypes()), (CLUSTER_PREFERENCES, machine_types.preferences())):
        stored = {obj["metadata"]["name"]: obj["spec"] for obj in await scene.client.list(resource)}
        assert {obj["metadata"]["name"]: obj["spec"] for obj in made} == stored, "no field was dropped"
    await machine_types.create_missing(scene.client)


async def test_a_machine_keeps_its_copy_until_it_goes(scene: Scene) -> None:
    spec = {"cpu": {"guest": 2}, "memory": {"guest": "1Gi"}}
    vm = machine(instancetype={"kind": "VirtualMachineInstancetype", "name": "own"})
    await scene.put(MACHINES, vm)
    failed = await scene.until(MACHINES, "web", lambda vm: find_condition(vm, "Failure"), "the missing instancetype")
    assert find_condition(failed, "Failure")["reason"] == "FailedFindInstancetype"  # type: ignore[index]
    made = await scene.put(INSTANCETYPES, {"metadata": {"name": "own"}, "spec": spec})
    instance = await scene.until(INSTANCES, "web", bool)
    assert instance["spec"]["domain"]["memory"]["guest"] == "1Gi"
    name = f"web-own-v1beta1-{made['metadata']['uid']}-1"
    vm = await scene.until(MACHINES, "web", lambda vm: not find_condition(vm, "Failure"), "the end of the failure")
    assert vm["status"]["instancetypeRef"]["controllerRevisionRef"] == {"name": name}
    copy = await scene.client.get(CONTROLLER_REVISIONS, scene.key(name))
    assert copy["data"]["spec"] == spec
    larger = {"spec": {"memory": {"guest": "2Gi"}}}
    await scene.client.patch(INSTANCETYPES, scene.key("own"), larger)
    await scene.client.delete(INSTANCES, scene.key("web"))
    again = await scene.until(INSTANCES, "web", lambda vmi: vmi["metadata"]["uid"] != instance["metadata"]["uid"])
    assert again["spec"]["domain"]["memory"]["guest"] == "1Gi"
    patch = [{"op": "remove", "path": "/status/instancetypeRef"}]
    path = MACHINES.object_path(scene.key("web"), "status")
    await scene.client.raw("PATCH", path, body=patch, content_type="application/json-patch+json")
    newer = f"web-own-v1beta1-{made['metadata']['uid']}-2"
    await scene.until(CONTROLLER_REVISIONS, newer, bool, "a copy of what is now")
    await scene.client.delete(MACHINES, scene.key("web"))
    await scene.until_gone(MACHINES, "web")
    for revision in (name, newer):
        await scene.until_gone(CONTROLLER_REVISIONS, revision)


async def replicas(scene: Scene) -> list[JsonObject]:
    found = await scene.client.list(INSTANCES, namespace=scene.namespace)
    return [obj for obj in found if not obj["metadata"].get("deletionTimestamp")]


async def test_a_replica_set_from_its_first_instance_to_its_last(scene: Scene) -> None:
    replica_set = make_set(2)
    replica_set["spec"]["template"]["spec"]["domain"]["devices"] = {}
    await scene.put(REPLICA_SETS, replica_set)
    await scene.until(REPLICA_SETS, "web", lambda obj: (obj.get("status") or {}).get("replicas") == 2)
    first, second = await replicas(scene)
    await scene.client.delete(INSTANCES, Key.of(first))
    await scene.until_gone(INSTANCES, first["metadata"]["name"])
    await scene.until(REPLICA_SETS, "web", lambda obj: obj["status"]["replicas"] == 2)
    names = {obj["metadata"]["name"] for obj in await replicas(scene)}
    assert (len(names), second["metadata"]["name"] in names) == (2, True)
    path = REPLICA_SETS.object_path(scene.key("web"), "scale")
    await scene.client.raw("PATCH", path, body={"spec": {"replicas": 1}}, content_type="application/merge-patch+json")
    await scene.until(REPLICA_SETS, "web", lambda obj: obj["status"]["replicas"] == 1)
    assert len(await replicas(scene)) == 1
    await scene.client.delete(REPLICA_SETS, scene.key("web"))
    await scene.until_gone(REPLICA_SETS, "web")
    for name in names:
        await scene.until_gone(INSTANCES, name)
