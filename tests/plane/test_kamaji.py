"""KamajiControlPlane and TenantControlPlane on a real API server: field ownership, schemas, garbage collection. No host is touched."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from pilvi.api import JsonObject
from pilvi.api.builtin import CLUSTERS, ENDPOINT_SLICES, SECRETS, SERVICES
from pilvi.api.capk import KubevirtCluster
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import TenantControlPlane
from pilvi.errors import ApiError
from pilvi.providers import kamaji, loadbalancer
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, is_true
from tests.plane.machine_plane import MachinePlane, Scene, on_plane
from tests.unit.providers.kamaji.world import FakeKit, FakeUnits, without_host

CONTROL_PLANES, TENANTS, INFRASTRUCTURES = KamajiControlPlane.RESOURCE, TenantControlPlane.RESOURCE, KubevirtCluster.RESOURCE


@pytest_asyncio.fixture
async def scene(
    plane: MachinePlane, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    def build(platform: Platform) -> list[Controller]:
        kit = FakeKit()
        units: Any = FakeUnits()
        without_host(monkeypatch, kit, platform.client)
        platform = dataclasses.replace(platform, units=units, kit=kit)
        return [*kamaji.controllers(platform), *loadbalancer.controllers(platform)]

    async with on_plane(plane, re.sub("[^a-z0-9]+", "-", request.node.name).strip("-"), tmp_path, build) as scene:
        # A connection that is cut off in the middle of its TLS handshake is an unclosed one to asyncio.
        await scene.platform.informers.wait_synced(60)
        yield scene


async def put_cluster(scene: Scene, **spec: Any) -> None:
    """What a user applies and what Cluster API adds: the owner references."""
    references = {
        "infrastructureRef": {"apiGroup": INFRASTRUCTURES.group, "kind": "KubevirtCluster", "name": "first"},
        "controlPlaneRef": {"apiGroup": CONTROL_PLANES.group, "kind": "KamajiControlPlane", "name": "first"},
    }
    network = {"pods": {"cidrBlocks": ["10.61.0.0/16"]}, "services": {"cidrBlocks": ["10.62.0.0/16"]}}
    cluster = await scene.put(CLUSTERS, {"metadata": {"name": "first"}, "spec": {"clusterNetwork": network, **references}})
    owner = {"apiVersion": cluster["apiVersion"], "kind": "Cluster", "name": "first", "uid": cluster["metadata"]["uid"]}
    metadata = {"name": "first", "ownerReferences": [owner], "labels": {"cluster.x-k8s.io/cluster-name": "first"}}
    annotations = {"cluster.x-k8s.io/managed-by": "kamaji"}
    await scene.put(INFRASTRUCTURES, {"metadata": {**metadata, "annotations": annotations}, "spec": {}})
    await scene.put(CONTROL_PLANES, {"metadata": metadata, "spec": {"version": "v1.37.2", "addons": {"coreDNS": {}}, **spec}})


def is_provisioned(obj: JsonObject) -> bool:
    return bool(((obj.get("status") or {}).get("initialization") or {}).get("provisioned"))


async def settle(scene: Scene) -> None:
    """Wait until the control plane has done what its spec says now."""
    await scene.until(TENANTS, "first", lambda obj: (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"])


async def test_a_cluster_is_published_and_goes(scene: Scene) -> None:
    await put_cluster(scene)
    infra = await scene.until(INFRASTRUCTURES, "first", is_provisioned)
    own = await scene.until(CONTROL_PLANES, "first", lambda obj: is_true(obj, "InfrastructureClusterPatched"))
    tenant = await scene.client.get(TENANTS, scene.key("first"))
    service = await scene.client.get(SERVICES, scene.key("first"))
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert tenant["status"]["controlPlaneEndpoint"] == f"{address}:6443"
    assert infra["spec"]["controlPlaneEndpoint"] == own["spec"]["controlPlaneEndpoint"] == {"host": address, "port": 6443}
    assert own["status"]["version"] == tenant["status"]["kubernetesResources"]["version"]["version"] == "v1.37.2"
    assert (await scene.client.get(SECRETS, scene.key("first-ca")))["type"] == "cluster.x-k8s.io/secret"
    scale = msgspec.json.decode(await scene.client.raw("GET", CONTROL_PLANES.object_path(scene.key("first"), "scale")))
    assert scale["status"] == {"replicas": 1, "selector": "kamaji.clastix.io/name=first"}
    await scene.client.delete(CONTROL_PLANES, scene.key("first"))
    for resource, name in ((CONTROL_PLANES, "first"), (TENANTS, "first"), (SERVICES, "first"), (ENDPOINT_SLICES, "first")):
        await scene.until_gone(resource, name)
    for name in ("first-ca", "first-kubeconfig", "first-admin-kubeconfig", "first-datastore-config"):
        await scene.until_gone(SECRETS, name)


async def test_what_is_taken_back_goes(scene: Scene) -> None:
    await put_cluster(scene, network={"certSANs": ["api.example.org"], "serviceLabels": {"a": "b"}}, apiServer={"extraArgs": ["--v=4"]})
    await scene.until(TENANTS, "first", lambda obj: obj["spec"]["networkProfile"].get("certSANs") == ["api.example.org"])
    network = {"certSANs": None, "serviceLabels": None}
    await scene.client.patch(CONTROL_PLANES, scene.key("first"), {"spec": {"network": network, "apiServer": None, "addons": None}})
    tenant = await scene.until(TENANTS, "first", lambda obj: "certSANs" not in obj["spec"]["networkProfile"])
    assert not (tenant["spec"]["controlPlane"]["deployment"].get("extraArgs") or {}).get("apiServer")
    assert not tenant["spec"]["controlPlane"]["service"].get("additionalMetadata")
    assert not tenant["spec"].get("addons")
    await settle(scene)


async def test_what_others_wrote_stays(scene: Scene) -> None:
    await put_cluster(scene)
    await scene.until(INFRASTRUCTURES, "first", is_provisioned)
    await scene.client.patch(TENANTS, scene.key("first"), {"metadata": {"labels": {"mine": "yes"}}})
    await scene.client.patch(CONTROL_PLANES, scene.key("first"), {"spec": {"network": {"certSANs": ["x.example.org"]}}})
    tenant = await scene.until(TENANTS, "first", lambda obj: obj["spec"]["networkProfile"].get("certSANs"))
    assert tenant["metadata"]["labels"]["mine"] == "yes"
    await settle(scene)


async def test_a_settled_control_plane_is_written_no_more(scene: Scene) -> None:
    await put_cluster(scene)
    await scene.until(CONTROL_PLANES, "first", lambda obj: is_true(obj, "InfrastructureClusterPatched"))
    kinds = (TENANTS, SERVICES, ENDPOINT_SLICES, INFRASTRUCTURES)
    before = [(await scene.client.get(kind, scene.key("first")))["metadata"]["resourceVersion"] for kind in kinds]
    # Wakes the controller of KamajiControlPlane, which applies its TenantControlPlane; an Event marks the end of the round.
    await scene.client.patch(CONTROL_PLANES, scene.key("first"), {"metadata": {"annotations": {"cluster.x-k8s.io/paused": ""}}})
    await scene.until(CONTROL_PLANES, "first", lambda obj: is_true(obj, "Paused"))
    await scene.client.patch(CONTROL_PLANES, scene.key("first"), {"metadata": {"annotations": {"cluster.x-k8s.io/paused": None}}})
    await scene.until(CONTROL_PLANES, "first", lambda obj: not is_true(obj, "Paused"))
    assert before == [(await scene.client.get(kind, scene.key("first")))["metadata"]["resourceVersion"] for kind in kinds]


@pytest.mark.parametrize("version", ["v1.20.0", "latest"])
async def test_unknown_version(scene: Scene, version: str) -> None:
    spec = {
        "kubernetes": {"version": version, "kubelet": {}},
        "controlPlane": {"service": {"serviceType": "LoadBalancer"}},
    }
    with pytest.raises(ApiError, match=r"v1\.37"):
        await scene.put(TENANTS, {"metadata": {"name": "old"}, "spec": spec})
