"""VirtualMachine and VirtualMachineInstance on a real API server: real CRDs and policies, scheduler, eviction, garbage collector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import EVENTS, NAMESPACES, NODES, PODS
from pilvi.errors import Invalid
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.virtualhost.node import node_name
from pilvi.providers.kubevirt.virtualhost.pressure import DISK_BYTES, Room, read_figures
from pilvi.runtime import find_condition, is_true
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm

HOST = node_name()


@pytest.fixture
def machines() -> FakeMachines:
    return FakeMachines()


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, machines: FakeMachines, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    name = request.node.name.replace("_", "-")[:50].strip("-")
    async with on_plane(plane, name, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines})) as scene:
        yield scene


async def put_network(scene: Scene) -> None:
    name = scene.namespace
    await scene.client.create(VPCS, {"metadata": {"name": name}, "spec": {}})
    await scene.client.create(SUBNETS, {"metadata": {"name": name}, "spec": {"cidrBlock": "10.9.0.0/16", "vpc": name}})
    await put_address(scene, "web", 5)


async def put_address(scene: Scene, machine: str, number: int) -> None:
    name = scene.namespace
    spec = {
        "attachIps": [],
        "attachMacs": [],
        "attachSubnets": [],
        "containerID": "",
        "ipAddress": f"10.9.0.{number}",
        "v4IpAddress": f"10.9.0.{number}",
        "v6IpAddress": "",
        "macAddress": f"02:00:00:00:00:{number:02x}",
        "namespace": name,
        "nodeName": "",
        "podName": machine,
        "podType": "VirtualMachine",
        "subnet": name,
    }
    await scene.client.create(IPS, {"metadata": {"name": f"{machine}.{name}"}, "spec": spec})


def printable(word: str) -> Any:
    return lambda vm: (vm.get("status") or {}).get("printableStatus") == word


async def run_machine(scene: Scene, **spec: Any) -> JsonObject:
    await put_network(scene)
    vm = make_vm()
    del vm["status"]
    vm["spec"] |= spec
    await scene.put(MACHINES, vm)
    return await scene.until(MACHINES, "web", printable("Running"))


async def instance_uid(scene: Scene) -> str:
    uid: str = (await scene.client.get(INSTANCES, scene.key("web")))["metadata"]["uid"]
    return uid


async def test_the_real_scheduler_brings_a_machine_up(scene: Scene, machines: FakeMachines) -> None:
    vm = await run_machine(scene)
    assert is_true(vm, "Ready")
    vmi = await scene.client.get(INSTANCES, scene.key("web"))
    # All that was written has a place in the schema: nothing was pruned.
    assert vmi["status"]["nodeName"] == HOST
    assert vmi["status"]["qosClass"] == "Burstable"
    assert vmi["status"]["interfaces"][0]["podInterfaceName"] == "eth0"
    assert find_condition(vmi, "pilvi.dev/Fidelity") is not None
    (pod,) = await scene.client.list(PODS, namespace=scene.namespace)
    assert (pod["spec"]["nodeName"], pod["status"]["phase"], pod["status"]["podIP"]) == (HOST, "Running", "10.9.0.5")
    assert is_true(pod, "Ready")
    assert not pod["spec"].get("volumes"), "no token is mounted"
    uid = vmi["metadata"]["uid"]
    assert machines.specs[uid].size.vcpus == 2
    node = await scene.client.get(NODES, Key("", HOST))
    assert is_true(node, "Ready")
    await scene.client.delete(MACHINES, scene.key("web"))
    await scene.until_gone(MACHINES, "web")
    assert await scene.client.list(PODS, namespace=scene.namespace) == []
    assert uid not in machines.layers


async def test_the_scheduler_says_why_not(scene: Scene, machines: FakeMachines) -> None:
    await put_network(scene)
    vm = make_vm()
    del vm["status"]
    vm["spec"]["template"]["spec"]["nodeSelector"] = {"zone": "moon"}
    await scene.put(MACHINES, vm)
    await scene.until(MACHINES, "web", printable("ErrorUnschedulable"))
    condition = find_condition(await scene.client.get(INSTANCES, scene.key("web")), "PodScheduled")
    assert condition is not None
    assert "didn't match" in condition["message"]
    assert await instance_uid(scene) not in machines.layers


async def test_eviction_stops_the_machine_and_always_starts_another(scene: Scene, machines: FakeMachines) -> None:
    await run_machine(scene)
    first = await instance_uid(scene)
    (pod,) = await scene.client.list(PODS, namespace=scene.namespace)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["metadata"]["name"], "namespace": scene.namespace}}
    await scene.client.raw("POST", PODS.object_path(Key.of(pod), "eviction"), body=eviction)
    await scene.until(INSTANCES, "web", lambda vmi: vmi["metadata"]["uid"] != first, "another instance")
    await scene.until(MACHINES, "web", printable("Running"))
    assert first not in machines.layers


async def test_deleting_the_namespace_ends_everything(scene: Scene, machines: FakeMachines) -> None:
    await run_machine(scene)
    uid = await instance_uid(scene)
    assert uid in machines.layers
    await scene.client.delete(NAMESPACES, Key("", scene.namespace))
    await scene.until_gone(NAMESPACES, scene.namespace)
    assert uid not in machines.layers
    assert uid not in machines.states


async def test_halt_and_start_by_spec(scene: Scene, machines: FakeMachines) -> None:
    await run_machine(scene)
    uid = await instance_uid(scene)
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"runStrategy": "Halted"}})
    await scene.until(MACHINES, "web", printable("Stopped"))
    assert uid not in machines.layers
    await scene.client.patch(MACHINES, scene.key("web"), {"spec": {"runStrategy": "Always"}})
    await scene.until(MACHINES, "web", printable("Running"))


async def test_deleting_the_instance_is_a_restart(scene: Scene) -> None:
    await run_machine(scene)
    first = await instance_uid(scene)
    await scene.client.delete(INSTANCES, scene.key("web"))
    await scene.until(INSTANCES, "web", lambda vmi: vmi["metadata"]["uid"] != first)
    await scene.until(MACHINES, "web", printable("Running"))


async def test_two_strategies_are_refused(scene: Scene) -> None:
    vm = make_vm()
    del vm["status"]
    vm["spec"]["running"] = True
    with pytest.raises(Invalid):
        await scene.put(MACHINES, vm)


async def test_people_can_read_what_happened(scene: Scene) -> None:
    await run_machine(scene)

    for reason in ("SuccessfulCreate", "Started"):
        await scene.until_listed(EVENTS, lambda event, reason=reason: event["reason"] == reason)  # type: ignore[misc]


async def look_at_host(scene: Scene, monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let the virtual host find so much on its disk of 1 TiB now, and wait until the node lifecycle controller has drawn its conclusion."""
    found = replace(read_figures(scene.platform.cloud.home), disk=Room(free_bytes, 1 << 40))
    monkeypatch.setattr("pilvi.providers.kubevirt.virtualhost.controller.read_figures", lambda _home: found)
    await scene.client.patch(NODES, Key("", HOST), {"metadata": {"labels": {"looked-at": str(free_bytes)}}})
    taint = {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}

    def is_tainted(node: JsonObject) -> bool:
        return any(taint.items() <= entry.items() for entry in node["spec"].get("taints") or [])

    await scene.until(NODES, HOST, lambda node: is_tainted(node) == (free_bytes < DISK_BYTES), "the taint")


async def test_a_full_disk_holds_back_new_machines_only(scene: Scene, machines: FakeMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    await run_machine(scene)
    first = await instance_uid(scene)
    await look_at_host(scene, monkeypatch, 1 << 20)
    late = make_vm()
    del late["status"]
    late["metadata"]["name"] = "late"
    await scene.put(MACHINES, late)
    await scene.until(MACHINES, "late", printable("ErrorUnschedulable"))
    waiting = await scene.client.get(INSTANCES, scene.key("late"))
    condition = find_condition(waiting, "PodScheduled")
    assert condition is not None
    assert condition["message"].startswith(f"less than 2048 MiB is free on the disk of {scene.platform.cloud.home}; remove what")
    assert await instance_uid(scene) == first
    assert is_true(await scene.client.get(MACHINES, scene.key("web")), "Ready")
    assert first in machines.specs
    assert waiting["metadata"]["uid"] not in machines.specs
    await look_at_host(scene, monkeypatch, 1 << 39)
    await scene.until(INSTANCES, "late", lambda vmi: vmi["status"]["phase"] == "Scheduled", "the scheduler to choose the host")
