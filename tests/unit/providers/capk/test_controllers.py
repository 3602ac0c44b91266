"""The controllers of CAPK's kinds together. The test plays Cluster API, Kamaji's provider, KubeVirt and Kube-OVN."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINES, SECRETS
from pilvi.providers import capk
from pilvi.providers.capk.names import INSTANCES, KUBEVIRT_CLUSTERS, KUBEVIRT_MACHINES, MACHINE_TEMPLATES, SUBNETS, VIRTUAL_MACHINES, VPCS
from pilvi.runtime import find_condition, is_true
from tests.fake_api import FakeApi
from tests.unit.providers.capk.objects import (
    make_bootstrap_secret,
    make_cluster,
    make_kubevirt_cluster,
    make_kubevirt_machine,
    make_machine,
    make_subnet,
    ready_vmi,
)
from tests.unit.providers.stage import Stage, on_stage

NAME = "first-md-0-abcde"
MACHINE_KEY = Key("shop", NAME)


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, capk.controllers) as stage:
        yield stage


def put(stage: Stage, *pairs: JsonObject) -> None:
    kinds = {resource.kind: resource for resource in (CLUSTERS, MACHINES, KUBEVIRT_CLUSTERS, KUBEVIRT_MACHINES)}
    for obj in pairs:
        metadata = {name: value for name, value in obj["metadata"].items() if name != "uid"}
        stage.put(kinds[obj["kind"]], {**obj, "metadata": metadata})


def reason(obj: JsonObject | None, kind: str) -> str:
    return (find_condition(obj or {}, kind) or {}).get("reason", "")


def cluster(stage: Stage) -> JsonObject:
    return stage.get(KUBEVIRT_CLUSTERS, "first", "shop")


def machine(stage: Stage) -> JsonObject | None:
    return stage.find(KUBEVIRT_MACHINES, NAME, "shop")


async def make_network(stage: Stage) -> str:
    """Do what Kube-OVN's controller does: say that the Subnet of the cluster is ready. Returns its name."""
    annotations = await stage.until(
        lambda: (found := cluster(stage)["metadata"].get("annotations") or {}).get("pilvi.dev/subnet") and found
    )
    name: str = annotations["pilvi.dev/subnet"]
    await stage.until(lambda: stage.find(SUBNETS, name) and stage.find(VPCS, annotations["pilvi.dev/vpc"]), "Vpc and Subnet")
    stage.put(SUBNETS, {**stage.get(SUBNETS, name), "status": make_subnet(name, "x")["status"]})
    await stage.until(lambda: is_true(cluster(stage), "NetworkReady"), "the network to be taken up")
    return name


async def make_vm(stage: Stage) -> JsonObject:
    put(stage, make_cluster(), make_kubevirt_cluster())
    await make_network(stage)
    put(stage, make_machine(), make_kubevirt_machine())
    stage.put(SECRETS, make_bootstrap_secret())
    vm: JsonObject = await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop"), "a VirtualMachine")
    return vm


def run_vm(stage: Stage, vm: JsonObject) -> None:
    """Do what KubeVirt's controller does."""
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": NAME, "uid": vm["metadata"]["uid"], "controller": True}
    vmi = ready_vmi()
    stage.put(INSTANCES, {**vmi, "metadata": {**vmi["metadata"], "ownerReferences": [owner], "finalizers": ["test/vmi"]}})


class TestCluster:
    async def test_gets_a_network_of_its_own_and_waits_for_its_endpoint(self, stage: Stage) -> None:
        put(stage, make_cluster(), make_kubevirt_cluster())
        name = await make_network(stage)
        assert stage.get(SUBNETS, name)["spec"]["cidrBlock"] == "10.9.0.0/16"
        assert stage.get(SUBNETS, name)["spec"]["vpc"] == cluster(stage)["metadata"]["annotations"]["pilvi.dev/vpc"]
        assert cluster(stage)["status"]["ready"] is False
        assert reason(cluster(stage), "Ready") == "WaitingForControlPlane"
        # Kamaji's provider writes endpoint and provisioned; nothing here may take them back.
        client, key = stage.platform.client, Key("shop", "first")
        await client.patch(KUBEVIRT_CLUSTERS, key, {"spec": {"controlPlaneEndpoint": {"host": "10.250.0.3", "port": 6443}}})
        done = {"status": {"ready": True, "initialization": {"provisioned": True}}}
        await client.patch(KUBEVIRT_CLUSTERS, key, done, subresource="status")
        await stage.until(lambda: is_true(cluster(stage), "Ready"))
        await stage.settled()
        assert cluster(stage)["status"]["ready"] is True
        assert cluster(stage)["status"]["initialization"] == {"provisioned": True}

    async def test_with_an_endpoint_of_the_user_it_is_provisioned_here(self, stage: Stage) -> None:
        own = make_kubevirt_cluster(managed=False)
        own["spec"] = {"controlPlaneEndpoint": {"host": "192.0.2.1", "port": 6443}}
        put(stage, make_cluster(), own)
        await make_network(stage)
        assert cluster(stage)["status"]["initialization"] == {"provisioned": True}

    async def test_overlapping_ranges_are_named_and_nothing_is_made(self, stage: Stage) -> None:
        put(stage, make_cluster(pods={"cidrBlocks": ["10.96.0.0/12"]}), make_kubevirt_cluster())
        await stage.until(lambda: reason(cluster(stage), "Ready") == "OverlappingRanges")
        await stage.settled()
        assert not [path for path in stage.api.objects if "kubeovn.io" in path]
        assert "pilvi.dev/vpc" not in cluster(stage)["metadata"]["annotations"]
        put(stage, make_cluster())
        await stage.until(lambda: cluster(stage)["metadata"]["annotations"].get("pilvi.dev/vpc"), "the correction to be seen")

    async def test_machines_that_name_a_subnet_decide_and_its_own_goes(self, stage: Stage) -> None:
        put(stage, make_cluster(), make_kubevirt_cluster())
        name = await make_network(stage)
        stage.put(SUBNETS, make_subnet("blue", "sky"))
        spec = make_kubevirt_machine(**{"ovn.kubernetes.io/logical_switch": "blue"})["spec"]
        template = {"name": "t", "namespace": "shop", "labels": {"cluster.x-k8s.io/cluster-name": "first"}}
        stage.put(MACHINE_TEMPLATES, {"metadata": template, "spec": {"template": {"spec": spec}}})
        await stage.until(lambda: cluster(stage)["metadata"]["annotations"]["pilvi.dev/vpc"] == "sky")
        await stage.until(lambda: stage.find(SUBNETS, name) is None and stage.find(VPCS, name) is None, "its own network to go")

    async def test_a_subnet_that_machines_name_may_come_last(self, stage: Stage) -> None:
        """Manifests are applied in any order."""
        spec = make_kubevirt_machine(**{"ovn.kubernetes.io/logical_switch": "blue"})["spec"]
        template = {"name": "t", "namespace": "shop", "labels": {"cluster.x-k8s.io/cluster-name": "first"}}
        stage.put(MACHINE_TEMPLATES, {"metadata": template, "spec": {"template": {"spec": spec}}})
        put(stage, make_cluster(), make_kubevirt_cluster())
        await stage.until(lambda: reason(cluster(stage), "NetworkReady") == "InvalidNetwork")
        await stage.settled()
        stage.put(SUBNETS, make_subnet("blue", "sky"))
        await stage.until(lambda: cluster(stage)["metadata"]["annotations"].get("pilvi.dev/subnet") == "blue")

    @pytest.mark.parametrize("cidr", ["10.0.1.1/24", None])
    async def test_a_subnet_without_a_valid_range_is_refused(self, stage: Stage, cidr: str | None) -> None:
        blue = make_subnet("blue", "sky")
        blue["spec"]["cidrBlock"] = cidr
        stage.put(SUBNETS, blue)
        annotated = make_kubevirt_cluster()
        annotated["metadata"]["annotations"]["pilvi.dev/vpc"] = "sky"
        put(stage, make_cluster(), annotated)
        await stage.until(lambda: reason(cluster(stage), "NetworkReady") == "InvalidNetwork")
        assert "Subnet blue" in (find_condition(cluster(stage), "NetworkReady") or {})["message"]
        stage.put(SUBNETS, make_subnet("blue", "sky"))
        await stage.until(lambda: reason(cluster(stage), "NetworkReady") == "WaitingForNetwork", "the correction to be seen")

    async def test_deletion_waits_for_the_network(self, stage: Stage) -> None:
        put(stage, make_cluster(), make_kubevirt_cluster())
        name = await make_network(stage)
        vpc = stage.get(VPCS, name)
        stage.put(VPCS, {**vpc, "metadata": {**vpc["metadata"], "finalizers": ["test/in-use"]}})
        stage.api.remove(CLUSTERS.object_path(Key("shop", "first")))
        await stage.platform.client.delete(KUBEVIRT_CLUSTERS, Key("shop", "first"))
        await stage.until(lambda: reason(cluster(stage), "Ready") == "Deleting")
        vpc = stage.get(VPCS, name)
        stage.put(VPCS, {**vpc, "metadata": {**vpc["metadata"], "finalizers": []}})
        await stage.until(lambda: stage.find(KUBEVIRT_CLUSTERS, "first", "shop") is None, "its end")
        assert not [path for path in stage.api.objects if "kubeovn.io" in path]

    async def test_paused_does_nothing(self, stage: Stage) -> None:
        put(stage, make_cluster(paused=True), make_kubevirt_cluster())
        await stage.until(lambda: is_true(cluster(stage), "Paused"))
        await stage.settled()
        assert not [path for path in stage.api.objects if "kubeovn.io" in path]

    async def test_what_is_paused_stays_as_it_is_and_is_not_deleted(self, stage: Stage) -> None:
        put(stage, make_cluster(), make_kubevirt_cluster())
        name = await make_network(stage)
        put(stage, make_cluster(paused=True))
        await stage.until(lambda: is_true(cluster(stage), "Paused"))
        await stage.platform.client.delete(KUBEVIRT_CLUSTERS, Key("shop", "first"))
        await stage.settled()
        assert is_true(cluster(stage), "NetworkReady")
        assert stage.find(VPCS, name) is not None
        put(stage, make_cluster())
        await stage.until(lambda: stage.find(KUBEVIRT_CLUSTERS, "first", "shop") is None, "its end")


class TestMachine:
    async def test_each_missing_thing_is_named_in_turn(self, stage: Stage) -> None:
        put(stage, make_kubevirt_machine())
        await stage.until(lambda: reason(machine(stage), "VMProvisioned") == "WaitingForMachine")
        put(stage, make_machine(data=None))
        await stage.until(lambda: reason(machine(stage), "VMProvisioned") == "WaitingForClusterInfrastructure")
        put(stage, make_cluster(provisioned=False), make_kubevirt_cluster())
        await make_network(stage)
        put(stage, make_cluster(initialized=False))
        await stage.until(lambda: reason(machine(stage), "VMProvisioned") == "WaitingForControlPlaneAvailable")
        put(stage, make_cluster())
        await stage.until(lambda: reason(machine(stage), "VMProvisioned") == "WaitingForBootstrapData")
        put(stage, make_machine())
        stage.put(SECRETS, make_bootstrap_secret())
        await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop"), "the machine, once all is there")

    async def test_bootstrap_data_is_found_before_the_machine_names_it(self, stage: Stage) -> None:
        put(stage, make_cluster(), make_kubevirt_cluster())
        await make_network(stage)
        config = {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfig", "name": NAME}
        machine_object = make_machine(data=None)
        machine_object["spec"]["bootstrap"] = {"configRef": config}
        put(stage, machine_object, make_kubevirt_machine())
        secret = make_bootstrap_secret()
        stage.put(SECRETS, secret)  # one of that name that no bootstrap provider has made
        await stage.settled()
        assert reason(machine(stage), "VMProvisioned") == "WaitingForBootstrapData"
        owner = {"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig", "name": NAME, "uid": "k", "controller": True}
        secret["metadata"]["ownerReferences"] = [owner]
        stage.put(SECRETS, {**secret, "type": "cluster.x-k8s.io/secret"})
        await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop"), "the machine")

    async def test_from_bootstrap_data_to_a_provider_id(self, stage: Stage) -> None:
        vm = await make_vm(stage)
        secret = stage.get(SECRETS, f"{NAME}-userdata", "shop")
        assert base64.b64decode(secret["data"]["userdata"]) == b"#cloud-config"
        switch = vm["spec"]["template"]["metadata"]["annotations"]["ovn.kubernetes.io/logical_switch"]
        assert switch == cluster(stage)["metadata"]["annotations"]["pilvi.dev/subnet"]
        run_vm(stage, vm)
        await stage.until(lambda: (machine(stage) or {}).get("status", {}).get("ready"), "a ready machine")
        found = stage.get(KUBEVIRT_MACHINES, NAME, "shop")
        assert found["spec"]["providerID"] == f"kubevirt://{NAME}"
        assert found["status"]["initialization"] == {"provisioned": True}
        await stage.settled()

    async def test_deletion_waits_until_the_machine_is_gone(self, stage: Stage) -> None:
        vm = await make_vm(stage)
        run_vm(stage, vm)
        await stage.until(lambda: (machine(stage) or {}).get("status", {}).get("ready"))
        # The wrong order: everything else is gone before.
        for path in (CLUSTERS.object_path(Key("shop", "first")), MACHINES.object_path(MACHINE_KEY)):
            stage.api.remove(path)
        await stage.platform.client.delete(KUBEVIRT_MACHINES, MACHINE_KEY)
        await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop") is None, "the VirtualMachine to go")
        await stage.settled()
        assert machine(stage) is not None, "its instance still runs"
        stage.api.remove(INSTANCES.object_path(MACHINE_KEY))
        await stage.until(lambda: machine(stage) is None, "the machine to go")
        assert stage.find(SECRETS, f"{NAME}-userdata", "shop") is None

    async def test_what_is_paused_stays_as_it_is_and_is_not_deleted(self, stage: Stage) -> None:
        run_vm(stage, await make_vm(stage))
        await stage.until(lambda: (machine(stage) or {}).get("status", {}).get("ready"))
        put(stage, make_cluster(paused=True))
        await stage.until(lambda: is_true(machine(stage) or {}, "Paused"))
        await stage.platform.client.delete(KUBEVIRT_MACHINES, MACHINE_KEY)
        await stage.settled()
        assert (machine(stage) or {})["status"]["ready"]
        assert stage.find(VIRTUAL_MACHINES, NAME, "shop") is not None
        put(stage, make_cluster())
        await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop") is None, "the VirtualMachine to go")

    async def test_a_strange_machine_of_that_name_is_left_alone(self, stage: Stage) -> None:
        stage.put(VIRTUAL_MACHINES, {"metadata": {"name": NAME, "namespace": "shop"}, "spec": {"runStrategy": "Halted"}})
        put(stage, make_cluster(), make_kubevirt_cluster())
        await make_network(stage)
        put(stage, make_machine(), make_kubevirt_machine())
        stage.put(SECRETS, make_bootstrap_secret())
        await stage.until(lambda: reason(machine(stage), "VMProvisioned") == "VMCreateFailed")
        await stage.platform.client.delete(KUBEVIRT_MACHINES, MACHINE_KEY)
        await stage.until(lambda: machine(stage) is None)
        assert stage.find(VIRTUAL_MACHINES, NAME, "shop") is not None

    async def test_a_template_tells_its_size(self, stage: Stage) -> None:
        spec = make_kubevirt_machine()["spec"]
        stage.put(MACHINE_TEMPLATES, {"metadata": {"name": "t", "namespace": "shop"}, "spec": {"template": {"spec": spec}}})
        await stage.until(lambda: stage.get(MACHINE_TEMPLATES, "t", "shop").get("status") == {"capacity": {"cpu": "2", "memory": "2Gi"}})

    @pytest.mark.parametrize("number", range(1, 15))
    @pytest.mark.parametrize(("code", "text"), [(409, "Conflict"), (500, "InternalError")])
    async def test_any_write_may_fail(self, stage: Stage, number: int, code: int, text: str) -> None:
        stage.fail_write(number, code, text, but=KUBEVIRT_MACHINES.object_path(MACHINE_KEY))
        vm = await make_vm(stage)
        run_vm(stage, vm)
        await stage.until(lambda: (machine(stage) or {}).get("status", {}).get("ready"), "a ready machine")
        await stage.platform.client.delete(KUBEVIRT_MACHINES, MACHINE_KEY)
        await stage.until(lambda: stage.find(VIRTUAL_MACHINES, NAME, "shop") is None)
        stage.api.remove(INSTANCES.object_path(MACHINE_KEY))
        await stage.until(lambda: machine(stage) is None, "the machine to go")
        assert stage.find(SECRETS, f"{NAME}-userdata", "shop") is None
