"""The controllers of KubeVirt's kinds together, from a VirtualMachine to a running machine and back. The scheduler is the test."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import EVENTS, LEASES, NAMESPACES, NODES, PODS, SECRETS
from pilvi.errors import UserError
from pilvi.images import Reference
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.imagepruning import ImagePruning
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, TENANT_CONTROL_PLANES, VPCS
from pilvi.providers.kubevirt.machines.backend import MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.folder import kept_folder, list_kept_folders
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, NodeDisk
from pilvi.providers.kubevirt.virtualhost.node import node_name
from pilvi.providers.kubevirt.virtualhost.pressure import Room, read_figures
from pilvi.providers.names import machine_unit
from pilvi.runtime import find_condition, is_true
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_ip, make_subnet, make_vm, make_vpc
from tests.unit.providers.stage import Stage, on_stage

HOST = node_name()


@pytest.fixture
def machines() -> FakeMachines:
    return FakeMachines()


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path, machines: FakeMachines) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines})) as stage:
        yield stage


def put_vm(stage: Stage, strategy: str = "Always", image: str | None = None) -> None:
    vm = make_vm(strategy)
    if image is not None:
        vm["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] = image
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)


def put_network(stage: Stage) -> None:
    stage.put(VPCS, make_vpc())
    stage.put(SUBNETS, make_subnet())
    stage.put(IPS, make_ip())


def find_vmi(stage: Stage) -> JsonObject | None:
    return stage.find(INSTANCES, "web", "shop")


def phase(stage: Stage) -> str | None:
    return ((find_vmi(stage) or {}).get("status") or {}).get("phase")


def word(stage: Stage) -> str | None:
    return ((stage.find(MACHINES, "web", "shop") or {}).get("status") or {}).get("printableStatus")


def pods(stage: Stage) -> list[JsonObject]:
    return [obj for path, obj in stage.api.objects.items() if path.startswith("/api/v1/namespaces/shop/pods/")]


async def bind(stage: Stage) -> JsonObject:
    """Do what the scheduler does."""
    (pod,) = await stage.until(lambda: pods(stage), "a virt-launcher Pod")
    return stage.put(PODS, {**pod, "spec": {**pod["spec"], "nodeName": HOST}})


async def run_machine(stage: Stage, strategy: str = "Always") -> None:
    put_network(stage)
    put_vm(stage, strategy)
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "a running machine")
    await stage.settled()


async def test_from_nothing_to_a_running_machine(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    vmi = stage.get(INSTANCES, "web", "shop")
    assert [entry["phase"] for entry in vmi["status"]["phaseTransitionTimestamps"]] == ["Scheduling", "Running"]
    assert vmi["status"]["interfaces"][0]["ipAddress"] == "10.9.0.5"
    assert find_condition(vmi, "pilvi.dev/Fidelity")["reason"] == "Sandbox"  # type: ignore[index]
    vm = stage.get(MACHINES, "web", "shop")
    assert (vm["status"]["ready"], vm["status"]["created"]) == (True, True)
    assert is_true(vm, "Ready")
    (pod,) = pods(stage)
    assert (pod["status"]["phase"], pod["status"]["podIP"]) == ("Running", "10.9.0.5")
    spec = machines.specs[vmi["metadata"]["uid"]]
    assert (spec.name, spec.size.vcpus, spec.cpu_milli, spec.size.memory_bytes) == ("web", 2, 1500, 1536 * 1024**2)
    assert spec.volumes[0] == NodeDisk("root", "v1.37.2")


async def test_how_real_a_machine_will_be_is_known_before_it_runs(stage: Stage) -> None:
    put_network(stage)
    put_vm(stage, "Always")
    await stage.until(lambda: phase(stage) == "Scheduling", "the instance to wait for its host")
    assert find_condition(stage.get(INSTANCES, "web", "shop"), "pilvi.dev/Fidelity")["reason"] == "Sandbox"  # type: ignore[index]


async def test_deleting_the_machine_leaves_nothing(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    await stage.platform.client.delete(MACHINES, make_key())
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "the machine to go")
    assert find_vmi(stage) is None
    assert pods(stage) == []
    assert machines.layers == set()
    assert machines.calls[-2:] == ["stop 30", "remove"]


async def test_what_a_machine_keeps_goes_with_it_and_not_with_its_instance(stage: Stage, machines: FakeMachines) -> None:
    put_network(stage)
    vm = make_vm("Always")
    del vm["metadata"]["uid"], vm["status"]
    vm["spec"]["template"]["spec"]["domain"]["devices"]["tpm"] = {"persistent": True}
    stage.put(MACHINES, vm)
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "a running machine")
    uid = stage.get(MACHINES, "web", "shop")["metadata"]["uid"]
    assert [spec.keeper for spec in machines.specs.values()] == [uid]
    cloud = stage.platform.cloud
    for name in (uid, "of-one-that-is-gone"):
        kept_folder(cloud, name).mkdir(parents=True)
    await stage.platform.client.delete(INSTANCES, make_key())
    await stage.until(lambda: list_kept_folders(cloud) == [uid], "the sweep of what nobody owns")
    await stage.platform.client.delete(MACHINES, make_key())
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "the machine to go")
    assert not kept_folder(cloud, uid).parent.exists()


async def test_readiness_goes_before_the_machine(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    seen: list[tuple[bool, bool]] = []

    async def stop(uid: str, grace_s: float) -> None:
        seen.append((is_true(stage.get(INSTANCES, "web", "shop"), "Ready"), is_true(pods(stage)[0], "Ready")))
        machines.states.pop(uid, None)

    machines.stop = stop  # type: ignore[method-assign]
    await stage.platform.client.delete(INSTANCES, make_key())
    await stage.until(lambda: seen, "the machine to be stopped")
    assert seen[0] == (False, False)


async def test_a_removal_that_fails_says_why_and_is_tried_again(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    machines.removal_failure = OSError(16, "Device or resource busy")
    await stage.platform.client.delete(MACHINES, make_key())
    await stage.until(lambda: "Device or resource busy" in _ready_message(stage), "the reason")
    machines.removal_failure = None
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "the machine to go")


async def test_halting_keeps_the_machine_and_ends_the_instance(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    await stage.platform.client.patch(MACHINES, make_key(), {"spec": {"runStrategy": "Halted"}})
    await stage.until(lambda: word(stage) == "Stopped", "a stopped machine")
    assert find_vmi(stage) is None
    assert machines.layers == set()
    await stage.platform.client.patch(MACHINES, make_key(), {"spec": {"runStrategy": "Always"}})
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "the next instance")


async def test_restart_by_requests(stage: Stage) -> None:
    put_network(stage)
    put_vm(stage, "Manual")
    await stage.until(lambda: word(stage) == "Stopped")
    start = {"status": {"stateChangeRequests": [{"action": "Start"}]}}
    await stage.platform.client.patch(MACHINES, make_key(), start, subresource="status")
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "a started machine")
    first = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    await stage.settled()
    assert "stateChangeRequests" not in stage.get(MACHINES, "web", "shop")["status"]
    restart = {"status": {"stateChangeRequests": [{"action": "Stop", "uid": first}, {"action": "Start"}]}}
    await stage.platform.client.patch(MACHINES, make_key(), restart, subresource="status")
    await stage.until(lambda: (vmi := find_vmi(stage)) and vmi["metadata"]["uid"] != first, "another instance")
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "the second run")


async def test_a_pod_that_is_evicted_takes_its_instance_along(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    first = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    (pod,) = pods(stage)
    marks = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5, "finalizers": ["test/grace"]}
    stage.put(PODS, {**pod, "metadata": {**pod["metadata"], **marks}})
    await stage.until(lambda: "stop 5" in machines.calls, "the machine to be asked to stop within the Pod's grace")
    path = PODS.object_path(make_key(pod["metadata"]["name"]))
    await stage.until(lambda: ("DELETE", path) in stage.api.requests, "the Pod to be let go")
    stage.put(PODS, {**pods(stage)[0], "metadata": {**pods(stage)[0]["metadata"], "finalizers": ["test/grace"]}})
    await stage.until(lambda: (vmi := find_vmi(stage)) and vmi["metadata"]["uid"] != first, "a new instance, as Always asks")


async def test_a_grace_that_becomes_shorter_counts_at_once(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    machines.deaf = True
    (pod,) = pods(stage)
    marks = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 25, "finalizers": ["test/grace"]}
    stage.put(PODS, {**pod, "metadata": {**pod["metadata"], **marks}})
    await stage.until(lambda: "stop 25" in machines.calls, "the machine to be asked to stop")
    stage.put(PODS, {**pod, "metadata": {**pod["metadata"], **marks, "deletionGracePeriodSeconds": 0}})
    await stage.until(lambda: "stop 0" in machines.calls, "the machine to be ended")
    assert machines.states == {}


async def test_an_instance_deleted_by_force_is_not_waited_for(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage, "Once")
    machines.deaf = True
    await stage.platform.client.delete(INSTANCES, make_key())
    await stage.until(lambda: "stop 30" in machines.calls, "the machine to be asked to stop")
    stage.api.remove(INSTANCES.object_path(make_key()))
    await stage.until(lambda: machines.layers == set(), "the machine to be ended and removed")


async def test_a_refusal_after_a_power_cut_takes_no_phase_back(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage, "Once")
    vmi = stage.get(INSTANCES, "web", "shop")
    machines.states.clear()
    vmi["spec"]["volumes"][0]["containerDisk"]["image"] = "quay.io/containerdisks/fedora:41"
    stage.put(INSTANCES, vmi)
    await stage.until(lambda: "fedora" in _ready_message(stage), "the refusal")
    assert phase(stage) == "Running"
    assert (find_condition(stage.get(INSTANCES, "web", "shop"), "Ready") or {})["reason"] == "GuestNotRunning"


async def test_a_pod_deleted_by_force_fails_the_instance(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage, "Once")
    stage.api.remove(PODS.object_path(make_key(pods(stage)[0]["metadata"]["name"])))
    await stage.until(lambda: phase(stage) == "Failed", "a failed instance")
    await stage.settled()
    assert machines.states == {}
    assert len(machines.layers) == 1, "its disk stays until the instance is deleted"
    assert word(stage) == "Stopped"


async def test_a_pod_that_only_the_cache_misses_ends_no_machine(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage, "Once")
    path = PODS.object_path(make_key(pods(stage)[0]["metadata"]["name"]))
    kept = stage.api.objects[path]
    stage.api.remove(path)
    stage.api.objects[path] = kept  # there, but no watch tells of it
    await stage.settled()
    assert phase(stage) == "Running"
    assert len(machines.states) == 1


async def test_what_is_missing_is_named_and_awaited(stage: Stage) -> None:
    put_vm(stage)
    await bind(stage)
    await stage.until(lambda: phase(stage) == "Scheduled")
    ready = find_condition(stage.get(INSTANCES, "web", "shop"), "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("False", "NetworkNotReady")
    put_network(stage)
    await stage.until(lambda: phase(stage) == "Running", "the network to wake the instance")


def user_data(spec: MachineSpec) -> bytes | None:
    return next(volume.user_data for volume in spec.volumes if isinstance(volume, CloudInitDisk))


async def test_user_data_from_a_secret_is_awaited_and_then_kept(stage: Stage, machines: FakeMachines) -> None:
    put_network(stage)
    vm = make_vm()
    vm["spec"]["template"]["spec"]["volumes"].append({"name": "init", "cloudInitConfigDrive": {"secretRef": {"name": "boot"}}})
    stage.put(MACHINES, vm)
    await bind(stage)
    await stage.until(lambda: "Secret shop/boot" in _ready_message(stage), "the Secret to be named")
    data = {"userdata": base64.b64encode(b"#cloud-config").decode()}
    stage.put(SECRETS, {"metadata": {"name": "boot", "namespace": "shop"}, "data": data})
    await stage.until(lambda: phase(stage) == "Running")
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    assert user_data(machines.specs[uid]) == b"#cloud-config"
    stage.api.remove(SECRETS.object_path(make_key("boot")))
    await stage.until(lambda: user_data(machines.specs[uid]) is None, "a pass without the Secret")
    assert phase(stage) == "Running"


async def test_an_image_for_a_backend_that_is_not_here_is_refused_and_nothing_is_made(stage: Stage, machines: FakeMachines) -> None:
    put_network(stage)
    put_vm(stage, image="quay.io/containerdisks/fedora:41")
    await stage.until(lambda: "quay.io/containerdisks/fedora:41 needs qemu" in _ready_message(stage), "the refusal")
    await stage.settled()
    assert pods(stage) == []
    assert machines.calls == []
    refusal = find_condition(stage.get(INSTANCES, "web", "shop"), "Synchronized")
    assert refusal is not None
    assert refusal["reason"] == "BackendMissing"
    await stage.platform.client.delete(MACHINES, make_key())
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "its deletion to end")


async def test_a_machine_that_cannot_start_says_so_and_is_tried_again(stage: Stage, machines: FakeMachines) -> None:
    machines.failure = UserError("no node image for v1.37.2", hint="run `pilvi kit build`")
    put_network(stage)
    put_vm(stage)
    await bind(stage)
    await stage.until(lambda: "pilvi kit build" in _ready_message(stage), "the reason")
    machines.failure = None
    await stage.until(lambda: phase(stage) == "Running", "another try")


async def test_a_dying_machine_is_running_but_not_ready(stage: Stage, machines: FakeMachines) -> None:
    await run_machine(stage)
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    machines.states[uid] = MachineState("failing", message="its first process ended (signal SIGKILL)", first_boot=0)
    for wake in stage.units.subscribers:
        wake(machine_unit(uid))
    await stage.until(lambda: "SIGKILL" in _ready_message(stage), "the loss to be seen")
    assert phase(stage) == "Running"
    assert is_true(pods(stage)[0], "Ready") is False
    await stage.until(lambda: stage.get(MACHINES, "web", "shop")["status"]["ready"] is False)


async def test_a_new_engine_adopts_what_runs(stage: Stage, machines: FakeMachines, tmp_path: Path) -> None:
    await run_machine(stage)
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    for task in stage.tasks:
        task.cancel()
    machines.calls.clear()
    machines.layers.add("left over")
    stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
    async with on_stage(stage.api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines})) as second:
        await second.until(lambda: "remove" in machines.calls, "the sweep")
        await second.settled()
        assert machines.layers == {uid}
        assert machines.calls.count("stop 0") == 1
        assert machines.calls.index("stop 0") > 0 or machines.calls[0] == "stop 0"
        assert phase(second) == "Running"
        assert second.find(LEASES, HOST, "kube-node-lease") is not None


async def test_an_instance_that_is_not_ours_is_in_the_way(stage: Stage) -> None:
    stage.put(INSTANCES, {"metadata": {"name": "web", "namespace": "shop", "finalizers": ["x/y"]}, "spec": {"domain": {}}})
    put_vm(stage)
    await stage.until(lambda: is_true(stage.get(MACHINES, "web", "shop"), "Failure"))
    failure = find_condition(stage.get(MACHINES, "web", "shop"), "Failure")
    assert failure is not None
    assert "in the way" in failure["message"]


class TestHost:
    async def test_the_node_is_there_with_its_lease(self, stage: Stage) -> None:
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        node = await stage.until(lambda: (found := stage.find(NODES, HOST)) and found.get("status") and found)
        assert is_true(node, "Ready")
        assert node["spec"]["taints"] == [{"key": "pilvi.dev/machines-only", "effect": "NoSchedule"}]
        assert node["metadata"]["labels"]["kubevirt.io/schedulable"] == "true"
        assert int(node["status"]["allocatable"]["pods"]) > 0
        assert stage.get(LEASES, HOST, "kube-node-lease")["spec"]["holderIdentity"] == HOST
        await stage.settled()

    async def test_what_cannot_be_removed_holds_up_neither_the_lease_nor_the_rest(
        self, stage: Stage, machines: FakeMachines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pilvi.providers.kubevirt.virtualhost.controller.RENEW_SECONDS", 0.05)
        machines.layers |= {"a-stuck", "b-left"}
        machines.undying.add("a-stuck")
        machines.deaf = True
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        await stage.until(lambda: machines.layers == {"a-stuck"}, "the other to be removed")
        written, calls = len(stage.api.requests), len(machines.calls)
        await stage.until(lambda: sum("/leases/" in path for _, path in stage.api.requests[written:]) > 5, "more Leases")
        machines.undying.clear()
        await stage.until(lambda: machines.layers == set(), "another try")
        assert len(machines.calls) - calls < 20, "without haste"

    async def test_a_cordon_stays_and_the_taint_comes_back(self, stage: Stage) -> None:
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        node = await stage.until(lambda: (found := stage.find(NODES, HOST)) and found.get("status") and found)
        cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
        stage.put(NODES, {**node, "spec": {"unschedulable": True, "taints": [cordon]}})
        await stage.until(lambda: len(stage.get(NODES, HOST)["spec"]["taints"]) == 2)
        assert cordon in stage.get(NODES, HOST)["spec"]["taints"]

    async def test_control_planes_take_their_share(self, stage: Stage) -> None:
        for name in ("a", "b"):
            stage.put(TENANT_CONTROL_PLANES, {"metadata": {"name": name, "namespace": "shop"}, "spec": {}})
        stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
        node = await stage.until(lambda: (found := stage.find(NODES, HOST)) and found.get("status") and found)
        assert node["status"]["allocatable"]["memory"] != node["status"]["capacity"]["memory"]

    async def test_a_container_pod_is_told_that_it_does_not_run_here(self, stage: Stage) -> None:
        spec: dict[str, Any] = {"nodeName": HOST, "containers": [{"name": "c", "image": "nginx"}]}
        stage.put(PODS, {"metadata": {"name": "stray", "namespace": "shop"}, "spec": spec, "status": {"phase": "Pending"}})
        await stage.until(lambda: stage.get(PODS, "stray", "shop")["status"]["phase"] == "Failed")
        assert stage.get(PODS, "stray", "shop")["status"]["reason"] == "MachinesOnly"
        await stage.until(lambda: any(path.startswith(EVENTS.path("shop")) for path in stage.api.objects), "an Event")


# Every write of the controllers may fail once, at any place: the machine comes up and goes away all the same.
@pytest.mark.parametrize("number", range(1, 15))
@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (500, "InternalError")])
async def test_any_write_may_fail(stage: Stage, machines: FakeMachines, number: int, code: int, reason: str) -> None:
    put_network(stage)
    stage.fail_write(number, code, reason, but=MACHINES.object_path(make_key()))
    put_vm(stage)
    await bind(stage)
    await stage.until(lambda: word(stage) == "Running", "a running machine")
    await stage.platform.client.delete(MACHINES, make_key())
    await stage.until(lambda: stage.find(MACHINES, "web", "shop") is None, "the machine to go")
    assert machines.layers == set()
    assert pods(stage) == []


def make_key(name: str = "web") -> Key:
    return Key("shop", name)


def _ready_message(stage: Stage) -> str:
    condition = find_condition(find_vmi(stage) or {}, "Ready")
    return (condition or {}).get("message", "")


async def test_a_machine_that_waits_for_a_short_host_says_what_is_short(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = replace(read_figures(tmp_path), disk=Room(0, 1 << 40))
    monkeypatch.setattr("pilvi.providers.kubevirt.virtualhost.controller.read_figures", lambda _home: full)
    stage.put(NAMESPACES, {"metadata": {"name": "kube-node-lease"}})
    await stage.until(lambda: is_true(stage.find(NODES, HOST) or {}, "DiskPressure"), "the pressure")
    put_vm(stage)
    (pod,) = await stage.until(lambda: pods(stage), "a virt-launcher Pod")
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    stage.put(PODS, {**pod, "status": {"phase": "Pending", "conditions": [refused]}})

    def said() -> str:
        return (find_condition(find_vmi(stage) or {}, "PodScheduled") or {}).get("message", "")

    await stage.until(lambda: said().endswith("; 0/1 nodes"), "the condition")
    assert said().startswith("less than 2048 MiB is free on the disk of")

    def told() -> bool:
        return any(obj.get("reason") == "HostHasDiskPressure" for obj in stage.api.objects.values())

    await stage.until(told, "the Event")


async def test_images_are_wanted_by_machines_that_are_stopped_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    put_vm(stage, "Halted", "quay.io/a:1")
    await stage.until(lambda: word(stage) == "Stopped", "a stopped machine")
    wanted: list[set[str]] = []

    async def prune(references: set[Reference]) -> list[str]:
        wanted.append({str(reference) for reference in references})
        return ["x.qcow2"]

    monkeypatch.setattr(stage.platform.images, "prune", prune)
    await ImagePruning(stage.platform).look()
    assert wanted == [{"quay.io/a:1"}]
