"""Migrations, evacuations and hosts that fail, from the object to its end. The scheduler and QEMU are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NAMESPACES, NODES, PODS
from pilvi.errors import MachineRefused
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, MIGRATIONS, SUBNETS, VPCS
from pilvi.providers.kubevirt.machines.moves import Move, MoveSettings
from pilvi.providers.kubevirt.virtualhost.node import FAILED_TAINT, node_name
from pilvi.runtime import find_condition, is_true
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_moves import MovableMachines
from tests.unit.providers.kubevirt.objects import make_ip, make_subnet, make_vm, make_vpc
from tests.unit.providers.stage import Stage, make_cloud, on_stage

HOST = node_name()
OTHER = f"{HOST}-2"


@pytest.fixture
def machines() -> MovableMachines:
    return MovableMachines()


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path, machines: MovableMachines) -> AsyncIterator[Stage]:
    cloud = msgspec.structs.replace(make_cloud(tmp_path), hosts=2)
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines}), cloud) as stage:
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        stage.put(NAMESPACES, {"metadata": {"name": "shop"}})
        await stage.until(lambda: stage.find(NODES, OTHER), "the second host")
        yield stage


def pods(stage: Stage) -> dict[str, JsonObject]:
    found = [obj for path, obj in stage.api.objects.items() if path.startswith("/api/v1/namespaces/shop/pods/")]
    return {pod["spec"].get("nodeName", ""): pod for pod in found}


def bind(stage: Stage, pod: JsonObject, host: str) -> None:
    stage.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": host}})


def vmi_of(stage: Stage) -> JsonObject:
    return stage.get(INSTANCES, "web", "shop")


def put_migration(stage: Stage, name: str = "move", **metadata: Any) -> None:
    stage.put(MIGRATIONS, {"metadata": {"name": name, "namespace": "shop", **metadata}, "spec": {"vmiName": "web"}})


def phase(stage: Stage, name: str = "move") -> str:
    return str((stage.get(MIGRATIONS, name, "shop").get("status") or {}).get("phase"))


async def run_machine(stage: Stage, **spec: Any) -> None:
    for resource, obj in ((VPCS, make_vpc()), (SUBNETS, make_subnet()), (IPS, make_ip())):
        stage.put(resource, obj)
    vm = make_vm("Always")
    del vm["metadata"]["uid"], vm["status"]
    vm["spec"]["template"]["spec"].update(spec)
    stage.put(MACHINES, vm)
    await stage.until(lambda: "" in pods(stage), "a virt-launcher Pod")
    bind(stage, pods(stage)[""], HOST)
    await stage.until(lambda: is_true(vmi_of(stage), "LiveMigratable") and is_true(vmi_of(stage), "Ready"), "a machine that can move")
    await stage.settled()


async def move(stage: Stage, name: str = "move", host: str = OTHER) -> None:
    await stage.until(lambda: "" in pods(stage), "the target's Pod")
    bind(stage, pods(stage)[""], host)
    await stage.until(lambda: phase(stage, name) in ("Succeeded", "Failed"), "the end of the move")


async def test_a_machine_moves_there_and_back(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    uid = vmi_of(stage)["metadata"]["uid"]
    put_migration(stage)
    await move(stage)
    migration, vmi = stage.get(MIGRATIONS, "move", "shop"), vmi_of(stage)
    phases = [entry["phase"] for entry in migration["status"]["phaseTransitionTimestamps"]]
    assert phases == ["Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running", "Succeeded"]
    assert migration["metadata"]["annotations"]["pilvi.dev/downtime-ms"] == "20"
    assert migration["metadata"]["labels"] == {"kubevirt.io/vmi-name": "web"}, "virtctl migrate-cancel looks for it"
    assert vmi["status"]["nodeName"] == OTHER
    assert machines.moves.guest[uid] == "second"
    await stage.until(lambda: [*pods(stage)] == [OTHER], "the source's Pod to go")
    await stage.until(lambda: is_true(pods(stage)[OTHER], "Ready") and is_true(vmi_of(stage), "Ready"), "the machine to be ready there")
    await stage.settled()
    vmi = vmi_of(stage)
    assert vmi["status"]["activePods"] == {pods(stage)[OTHER]["metadata"]["uid"]: OTHER}
    assert vmi["status"]["migrationState"]["completed"] is True
    assert "stop" not in " ".join(machines.calls), "nobody has stopped the machine"
    put_migration(stage, "back")
    await move(stage, "back", HOST)
    await stage.until(lambda: [*pods(stage)] == [HOST], "the machine to be back")
    await stage.settled()
    assert vmi_of(stage)["status"]["nodeName"] == HOST
    await stage.platform.client.delete(MACHINES, Key("shop", "web"))
    await stage.until(lambda: not pods(stage) and stage.find(INSTANCES, "web", "shop") is None, "nothing to be left")
    await stage.until(lambda: stage.find(MIGRATIONS, "move", "shop") is None, "the migrations to go with their machine")


@pytest.mark.parametrize("number", range(1, 16))
async def test_a_write_that_fails_delays_a_move_and_breaks_nothing(stage: Stage, machines: MovableMachines, number: int) -> None:
    await run_machine(stage)
    stage.fail_write(number, 500, "InternalError", but="")
    put_migration(stage)
    await move(stage)
    assert phase(stage) == "Succeeded"
    await stage.until(lambda: [*pods(stage)] == [OTHER] and vmi_of(stage)["status"]["nodeName"] == OTHER, "the machine over there")
    assert "stop" not in " ".join(machines.calls)


async def test_a_target_that_cannot_be_made_leaves_the_machine_where_it_is(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    machines.moves.refusal = MachineRefused("m-1", "migrate", "no room")
    put_migration(stage)
    await move(stage)
    assert phase(stage) == "Failed"
    assert "no room" in stage.get(MIGRATIONS, "move", "shop")["status"]["migrationState"]["failureReason"]
    await stage.until(lambda: [*pods(stage)] == [HOST], "the target's Pod to go")
    await stage.settled()
    status = vmi_of(stage)["status"]
    assert (status["nodeName"], status["migrationState"]["failed"]) == (HOST, True)
    assert status["activePods"] == {pods(stage)[HOST]["metadata"]["uid"]: HOST}


async def test_deleting_a_migration_calls_it_off(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    machines.moves.progress = Move("running")
    put_migration(stage)
    await stage.until(lambda: "" in pods(stage), "the target's Pod")
    bind(stage, pods(stage)[""], OTHER)
    await stage.until(lambda: phase(stage) == "Running", "the move to be under way")
    await stage.until(lambda: stage.get(MACHINES, "web", "shop")["status"]["printableStatus"] == "Migrating", "the word for it")
    await stage.platform.client.delete(MIGRATIONS, Key("shop", "move"))
    await stage.until(lambda: stage.find(MIGRATIONS, "move", "shop") is None, "the migration to go")
    await stage.until(lambda: [*pods(stage)] == [HOST], "the target's Pod to go")
    state = vmi_of(stage)["status"]["migrationState"]
    assert (state["abortStatus"], state["failed"]) == ("Succeeded", True)
    assert not machines.moves.second
    assert machines.moves.guest == {}


async def test_a_move_that_was_called_off_too_late_counts(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    machines.moves.progress = Move("running")
    put_migration(stage)
    await stage.until(lambda: "" in pods(stage), "the target's Pod")
    bind(stage, pods(stage)[""], OTHER)
    await stage.until(lambda: phase(stage) == "Running", "the move to be under way")
    looked = asyncio.Event()

    async def look(uid: str) -> Move:
        looked.set()
        return Move("running")

    machines.moves.look = look  # type: ignore[method-assign]
    await looked.wait()
    machines.moves.progress = Move("completed")
    await stage.platform.client.delete(MIGRATIONS, Key("shop", "move"))
    await stage.until(lambda: stage.find(MIGRATIONS, "move", "shop") is None, "the migration to go")
    await stage.until(lambda: [*pods(stage)] == [OTHER], "the machine to be over there")
    assert vmi_of(stage)["status"]["nodeName"] == OTHER


async def test_a_guest_that_does_not_arrive_in_time_fails_or_is_paused(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    machines.moves.progress = Move("running")
    selectors = {"virtualMachineInstanceSelector": {"app": "web"}}
    policy = {"metadata": {"name": "p"}, "spec": {"selectors": selectors, "completionTimeoutPerGiB": 1, "bandwidthPerMigration": "1Mi"}}
    await stage.platform.client.create(kubevirt.kinds.POLICIES, policy)
    put_migration(stage)
    await move(stage)
    assert phase(stage) == "Failed"
    assert machines.moves.settings == MoveSettings(1 << 20, 300)
    assert vmi_of(stage)["status"]["migrationState"]["migrationPolicyName"] == "p"
    await stage.platform.client.patch(kubevirt.kinds.POLICIES, Key("", "p"), {"spec": {"allowWorkloadDisruption": True}})
    put_migration(stage, "again")
    await move(stage, "again")
    assert phase(stage, "again") == "Succeeded"
    assert (machines.moves.paused, machines.moves.resumed) == (True, True)
    assert vmi_of(stage)["status"]["migrationState"]["mode"] == "Paused"


async def test_a_pause_that_was_written_and_not_done_is_done_by_who_comes_next(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    machines.moves.progress = Move("running")
    machines.moves.pause_failures = 1
    selectors = {"virtualMachineInstanceSelector": {"app": "web"}}
    policy = {"metadata": {"name": "p"}, "spec": {"selectors": selectors, "completionTimeoutPerGiB": 1, "allowWorkloadDisruption": True}}
    await stage.platform.client.create(kubevirt.kinds.POLICIES, policy)
    put_migration(stage)
    await move(stage)
    assert phase(stage) == "Succeeded"
    assert (machines.moves.pause_failures, machines.moves.paused, machines.moves.resumed) == (0, True, True)


@pytest.mark.parametrize("progress", [Move("completed", total_ms=1), Move("failed", "the network is away")])
async def test_a_guest_whose_writes_would_be_lost_stands_still_from_the_beginning(
    stage: Stage, machines: MovableMachines, progress: Move
) -> None:
    await run_machine(stage)
    machines.moves.loses_writes = True
    machines.moves.outcome = progress
    put_migration(stage)
    await move(stage)
    assert phase(stage) == ("Succeeded" if progress.phase == "completed" else "Failed")
    assert (machines.moves.paused, machines.moves.resumed) == (True, True)
    assert vmi_of(stage)["status"]["migrationState"]["mode"] == "Paused"
    machines.moves.loses_writes = machines.moves.paused = machines.moves.resumed = False
    put_migration(stage, "next")
    await move(stage, "next", HOST if progress.phase == "completed" else OTHER)
    assert not machines.moves.resumed, "a pause that is not of this move is left alone"


async def test_an_eviction_moves_the_machine(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage, evictionStrategy="LiveMigrate")
    request = {"uid": "1", "namespace": "shop", "name": pods(stage)[HOST]["metadata"]["name"]}
    answer = kubevirt.evictions(stage.platform)
    response = await answer({**request, "dryRun": True})
    assert (response["allowed"], response["status"]["code"]) == (False, 429)
    assert "evacuationNodeName" not in vmi_of(stage)["status"], "it was only asked what would be"
    assert not (await answer(request))["allowed"]
    await stage.until(lambda: (find_condition(vmi_of(stage), "EvictionRequested") or {}).get("status") == "True", "the word of it")
    migrations = "/apis/kubevirt.io/v1/namespaces/shop/virtualmachineinstancemigrations/"
    name = await stage.until(lambda: next((path for path in stage.api.objects if path.startswith(migrations)), None), "a migration")
    name = name.removeprefix(migrations)
    assert name.startswith("kubevirt-evacuation-")
    await move(stage, name)
    await stage.until(lambda: [*pods(stage)] == [OTHER], "the machine to have left")
    await stage.settled()
    assert "evacuationNodeName" not in vmi_of(stage)["status"]
    assert find_condition(vmi_of(stage), "EvictionRequested") is None
    assert (await answer(request))["allowed"], "a Pod that is gone"


async def test_a_machine_that_may_be_stopped_is(stage: Stage) -> None:
    await run_machine(stage)
    pod = pods(stage)[HOST]
    answer = await kubevirt.evictions(stage.platform)({"uid": "1", "namespace": "shop", "name": pod["metadata"]["name"]})
    assert answer == {"uid": "1", "allowed": True}


async def test_the_machines_of_a_host_that_fails_run_elsewhere(stage: Stage, machines: MovableMachines) -> None:
    await run_machine(stage)
    uid = vmi_of(stage)["metadata"]["uid"]
    await stage.platform.client.patch(NODES, Key("", HOST), {"metadata": {"annotations": {"pilvi.dev/failed": "now"}}})
    await stage.until(lambda: "" in pods(stage), "a Pod of another run")
    assert vmi_of(stage)["metadata"]["uid"] != uid
    assert machines.calls.count("kill") == 1
    node = await stage.until(lambda: not is_true(stage.get(NODES, HOST), "Ready") and stage.get(NODES, HOST), "the Node to be away")
    assert FAILED_TAINT in node["spec"]["taints"]
    bind(stage, pods(stage)[""], OTHER)
    await stage.until(lambda: is_true(vmi_of(stage), "Ready") and vmi_of(stage)["status"]["nodeName"] == OTHER, "the machine elsewhere")
    await stage.platform.client.patch(NODES, Key("", HOST), {"metadata": {"annotations": {"pilvi.dev/failed": None}}})
    node = await stage.until(lambda: is_true(stage.get(NODES, HOST), "Ready") and stage.get(NODES, HOST), "the host to be back")
    assert FAILED_TAINT not in node["spec"]["taints"]


async def test_a_machine_whose_state_is_lost_moves_nowhere(stage: Stage, machines: MovableMachines) -> None:
    put_migration(stage)
    await stage.until(lambda: phase(stage) == "Pending", "the migration to wait for its machine")
    await run_machine_paused(stage)
    assert phase(stage) == "Pending"


async def run_machine_paused(stage: Stage) -> None:
    """Up to the Pod: no address, so it does not run."""
    vm = make_vm("Always")
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)
    await stage.until(lambda: "" in pods(stage), "a virt-launcher Pod")
    await stage.settled()


async def test_fewer_hosts_are_emptied_first(fake_api: FakeApi, tmp_path: Path) -> None:
    machines = MovableMachines()
    cloud = msgspec.structs.replace(make_cloud(tmp_path), hosts=2)
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines}), cloud) as stage:
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        await stage.until(lambda: stage.find(NODES, OTHER), "the second host")
        await run_machine(stage)
        put_migration(stage)
        await move(stage)
        await stage.until(lambda: [*pods(stage)] == [OTHER], "the machine on the second host")
    one = make_cloud(tmp_path)
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines}), one) as stage:
        node = await stage.until(lambda: stage.get(NODES, OTHER)["spec"].get("unschedulable") and stage.get(NODES, OTHER), "a cordon")
        assert node is not None
        await stage.until(lambda: "" in pods(stage), "the machine to be stopped, and started again")
        bind(stage, pods(stage)[""], HOST)
        await stage.until(lambda: stage.find(NODES, OTHER) is None, "the host to go when it is empty")
        await stage.until(lambda: is_true(vmi_of(stage), "Ready"), "the machine to run")
