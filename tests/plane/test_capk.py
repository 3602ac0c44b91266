"""KubevirtCluster and KubevirtMachine on a real API server, above KubeVirt's controllers. The test plays Cluster API and Kube-OVN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINES, SECRETS
from pilvi.errors import Invalid
from pilvi.providers import capk, kubevirt
from pilvi.providers.capk.names import INSTANCES, KUBEVIRT_CLUSTERS, KUBEVIRT_MACHINES, MACHINE_TEMPLATES, SUBNETS, VIRTUAL_MACHINES, VPCS
from pilvi.providers.kubevirt.kinds import IPS
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, is_true
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.unit.providers.capk.objects import (
    make_bootstrap_secret,
    make_cluster,
    make_kubevirt_cluster,
    make_kubevirt_machine,
    make_machine,
)
from tests.unit.providers.kubevirt.fake_machines import FakeMachines

NAME = "first-md-0-abcde"


@pytest_asyncio.fixture
async def scene(plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    def build(platform: Platform) -> list[Controller]:
        return [*capk.controllers(platform), *kubevirt.controllers(platform, {"sandbox": FakeMachines()})]

    async with on_plane(plane, request.node.name.replace("_", "-")[:50].strip("-"), tmp_path, build) as scene:
        yield scene


async def put_owned(scene: Scene, *pairs: tuple[Any, JsonObject]) -> None:
    """Create the objects, each owned by the one before it, as Cluster API would."""
    owner: JsonObject | None = None
    for resource, obj in pairs:
        metadata = {name: value for name, value in obj["metadata"].items() if name != "ownerReferences"}
        if owner is not None:
            reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
            metadata["ownerReferences"] = [{**reference, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}]
        owner = await scene.put(resource, {**obj, "metadata": metadata})


async def put_cluster(scene: Scene, **network: Any) -> JsonObject:
    cluster = make_cluster(**network)
    cluster["spec"]["controlPlaneRef"] = {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KamajiControlPlane", "name": "first"}
    await put_owned(scene, (CLUSTERS, cluster), (KUBEVIRT_CLUSTERS, make_kubevirt_cluster()))
    return await scene.until(KUBEVIRT_CLUSTERS, "first", lambda obj: obj.get("status"), "a first status")


async def make_network_ready(scene: Scene) -> None:
    found = await scene.until(KUBEVIRT_CLUSTERS, "first", lambda obj: (obj["metadata"].get("annotations") or {}).get("pilvi.dev/subnet"))
    name = found["metadata"]["annotations"]["pilvi.dev/subnet"]
    await scene.until(SUBNETS, name, bool)
    condition = {"type": "Ready", "status": "True", "reason": "Routed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    await scene.client.patch(SUBNETS, Key("", name), {"status": {"conditions": [condition]}}, subresource="status")
    await scene.until(KUBEVIRT_CLUSTERS, "first", lambda obj: is_true(obj, "NetworkReady"))
    spec = dict.fromkeys(("containerID", "nodeName", "v6IpAddress"), "") | {
        name: [] for name in ("attachIps", "attachMacs", "attachSubnets")
    }
    address = {"ipAddress": "10.9.0.7", "v4IpAddress": "10.9.0.7", "macAddress": "02:00:00:00:00:07", "subnet": name}
    machine = {"podName": NAME, "podType": "VirtualMachine", "namespace": scene.namespace}
    await scene.client.create(IPS, {"metadata": {"name": f"{NAME}.{scene.namespace}"}, "spec": {**spec, **address, **machine}})


async def put_machine(scene: Scene) -> None:
    secret = make_bootstrap_secret()
    await scene.put(SECRETS, secret)
    await put_owned(scene, (MACHINES, make_machine()), (KUBEVIRT_MACHINES, make_kubevirt_machine()))


async def test_from_a_cluster_to_a_machine_with_an_id_and_back(scene: Scene) -> None:
    assert (await put_cluster(scene))["status"]["ready"] is False
    await make_network_ready(scene)
    await put_machine(scene)
    machine = await scene.until(KUBEVIRT_MACHINES, NAME, lambda obj: (obj.get("status") or {}).get("ready"), "a ready machine")
    # All that was written has a place in the schema: nothing was pruned.
    assert machine["spec"]["providerID"] == f"kubevirt://{NAME}"
    assert machine["status"]["initialization"] == {"provisioned": True}
    assert machine["status"]["addresses"][1] == {"type": "InternalIP", "address": "10.9.0.7"}
    assert is_true(machine, "Ready")
    await scene.until(KUBEVIRT_MACHINES, NAME, lambda obj: is_true(obj, "BootstrapExecSucceeded"))
    await scene.client.delete(KUBEVIRT_MACHINES, scene.key(NAME))
    await scene.until_gone(KUBEVIRT_MACHINES, NAME)
    for resource in (VIRTUAL_MACHINES, INSTANCES):
        assert await scene.client.find(resource, scene.key(NAME)) is None
    await scene.client.delete(KUBEVIRT_CLUSTERS, scene.key("first"))
    await scene.until_gone(KUBEVIRT_CLUSTERS, "first")
    vpcs = await scene.client.list(VPCS, labels={"pilvi.dev/owner-namespace": scene.namespace})
    assert vpcs == []


async def test_overlapping_ranges_are_refused_before_anything_is_made(scene: Scene) -> None:
    with pytest.raises(Invalid, match=r"pods 10\.96\.0\.0/12 and services 10\.96\.0\.0/16 overlap"):
        await put_cluster(scene, pods={"cidrBlocks": ["10.96.0.0/12"]})
    assert await scene.client.list(KUBEVIRT_CLUSTERS, namespace=scene.namespace) == []


async def test_a_template_gets_its_capacity_and_may_not_change(scene: Scene) -> None:
    spec = {"template": {"spec": make_kubevirt_machine()["spec"]}}
    await scene.client.create(MACHINE_TEMPLATES, {"metadata": {"name": "t", "namespace": scene.namespace}, "spec": spec})
    await scene.until(MACHINE_TEMPLATES, "t", lambda obj: (obj.get("status") or {}).get("capacity") == {"cpu": "2", "memory": "2Gi"})
    change = {"spec": {"template": {"spec": {"virtualMachineBootstrapCheck": {"checkStrategy": "ssh"}}}}}
    with pytest.raises(Invalid, match="another name"):
        await scene.client.patch(MACHINE_TEMPLATES, scene.key("t"), change)
