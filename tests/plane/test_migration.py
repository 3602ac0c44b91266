"""Machines that move, on a real API server: its rules for the kinds, and the scheduler that finds another host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NAMESPACES, NODES, PODS
from pilvi.errors import Invalid
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, MIGRATIONS, POLICIES
from pilvi.providers.kubevirt.virtualhost.node import LEASE_NAMESPACE
from pilvi.runtime import is_true
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.plane.test_kubevirt import HOST, run_machine
from tests.unit.providers.kubevirt.fake_moves import MovableMachines

OTHER = f"{HOST}-2"


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    name = re.sub("[^a-z0-9]+", "-", request.node.name)[:50].strip("-")
    machines = MovableMachines()
    async with on_plane(plane, name, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines}), hosts=2) as scene:
        await scene.until(NAMESPACES, LEASE_NAMESPACE, bool)
        for host in (HOST, OTHER):
            await scene.until(NODES, host, lambda node: is_true(node, "Ready") and not node["spec"].get("unschedulable"))
        yield scene


def new_migration(name: str = "move", **spec: Any) -> JsonObject:
    return {"metadata": {"name": name}, "spec": {"vmiName": "web", **spec}}


def in_phase(*phases: str) -> Any:
    return lambda migration: (migration.get("status") or {}).get("phase") in phases


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"vmiName": ""}, "spec.vmiName is missing"),
        ({"sendTo": {"connectURL": "a", "migrationID": "b"}}, "spec.sendTo"),
        ({"receive": {"migrationID": "b"}}, "spec.receive"),
    ],
)
async def test_what_is_refused(scene: Scene, spec: JsonObject, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        await scene.put(MIGRATIONS, new_migration(**spec))


async def test_the_scheduler_finds_the_other_host(scene: Scene) -> None:
    policy = {
        "metadata": {"name": scene.namespace},
        "spec": {"selectors": {"namespaceSelector": {"kubernetes.io/metadata.name": scene.namespace}}},
    }
    await scene.client.create(POLICIES, {**policy, "spec": {**policy["spec"], "bandwidthPerMigration": "64Mi"}})
    await run_machine(scene)
    before = (await scene.until(INSTANCES, "web", lambda vmi: is_true(vmi, "LiveMigratable")))["status"]["nodeName"]
    await scene.put(MIGRATIONS, new_migration())
    moved = await scene.until(MIGRATIONS, "move", in_phase("Succeeded", "Failed"))
    assert moved["status"]["phase"] == "Succeeded"
    assert moved["status"]["migrationState"]["migrationPolicyName"] == scene.namespace
    vmi = await scene.client.get(INSTANCES, scene.key("web"))
    assert {before, vmi["status"]["nodeName"]} == {HOST, OTHER}
    with pytest.raises(Invalid, match="make another one"):
        await scene.client.patch(MIGRATIONS, scene.key("move"), {"spec": {"vmiName": "db"}})


async def test_a_host_that_nobody_has_is_awaited_until_it_is_called_off(scene: Scene) -> None:
    await run_machine(scene)
    await scene.put(MIGRATIONS, new_migration(addedNodeSelector={"rack": "none"}))
    await scene.until_listed(PODS, lambda pod: (pod["spec"].get("nodeSelector") or {}).get("rack") and not is_true(pod, "PodScheduled"))
    await scene.client.delete(MIGRATIONS, scene.key("move"))
    await scene.until_gone(MIGRATIONS, "move")
    assert len(await scene.client.list(PODS, namespace=scene.namespace)) == 1


async def test_the_machines_of_a_host_that_fails_are_placed_on_the_other_one(scene: Scene) -> None:
    await run_machine(scene)
    vmi = await scene.client.get(INSTANCES, scene.key("web"))
    host, uid = vmi["status"]["nodeName"], vmi["metadata"]["uid"]
    await scene.client.patch(NODES, Key("", host), {"metadata": {"annotations": {"pilvi.dev/failed": "now"}}})
    try:
        await scene.until(
            INSTANCES, "web", lambda vmi: vmi["metadata"]["uid"] != uid and is_true(vmi, "Ready") and vmi["status"]["nodeName"] != host
        )
    finally:
        await scene.client.patch(NODES, Key("", host), {"metadata": {"annotations": {"pilvi.dev/failed": None}}})
