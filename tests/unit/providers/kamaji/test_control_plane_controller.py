"""The controller of KamajiControlPlane: the order of publication, faults at every write, pausing, deletion."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, SECRETS, SERVICES
from pilvi.api.capk import KubevirtCluster
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.runtime import find_condition, is_true
from tests.fake_api import FakeApi, status_response
from tests.unit.providers.kamaji.objects import ADDRESS
from tests.unit.providers.kamaji.world import World, give_address, started_world

CONTROL_PLANES, TENANTS, INFRASTRUCTURES = KamajiControlPlane.RESOURCE, TenantControlPlane.RESOURCE, KubevirtCluster.RESOURCE


def cluster(name: str = "first", control_plane: str = "first", **spec: Any) -> JsonObject:
    return CLUSTERS.new(
        Key("default", name),
        spec={
            "clusterNetwork": {"pods": {"cidrBlocks": ["10.1.0.0/16"]}, "services": {"cidrBlocks": ["10.2.0.0/16"]}, "apiServerPort": 7443},
            "infrastructureRef": {"apiGroup": INFRASTRUCTURES.group, "kind": "KubevirtCluster", "name": name},
            "controlPlaneRef": {"apiGroup": CONTROL_PLANES.group, "kind": "KamajiControlPlane", "name": control_plane},
            **spec,
        },
    )


def infrastructure(name: str = "first", **annotations: str) -> JsonObject:
    managed = {"cluster.x-k8s.io/managed-by": "kamaji", **{key.replace("_", "/"): value for key, value in annotations.items()}}
    metadata = {"annotations": managed, "labels": {"cluster.x-k8s.io/cluster-name": name}}
    return INFRASTRUCTURES.new(Key("default", name), metadata=metadata, spec={})


def control_plane(name: str = "first", owner: str | None = "first", **spec: Any) -> JsonObject:
    metadata: JsonObject = {}
    if owner:
        metadata["ownerReferences"] = [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": owner, "uid": "c"}]
    return CONTROL_PLANES.new(Key("default", name), metadata=metadata, spec={"version": "1.37.2", "addons": {"coreDNS": {}}, **spec})


def apply_all(world: World, name: str = "first", owner: str = "first", **spec: Any) -> None:
    world.put(CLUSTERS, cluster(owner, name))
    world.put(INFRASTRUCTURES, infrastructure(owner))
    world.put(CONTROL_PLANES, control_plane(name, owner, **spec))


async def addressed(world: World, name: str = "first") -> None:
    give_address(world, await world.until(lambda: world.find(SERVICES, name), "the Service"))


async def provisioned(world: World, name: str = "first") -> None:
    def done() -> bool:
        status = (world.find(INFRASTRUCTURES, name) or {}).get("status") or {}
        return bool((status.get("initialization") or {}).get("provisioned"))

    await world.until(done, "the infrastructure cluster to be provisioned")


async def test_order_of_publication(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await provisioned(world)
        writes = [path.partition("?")[0] for method, path in fake_api.requests if method in ("POST", "PATCH")]
        secrets = "/api/v1/namespaces/default/secrets"
        own = CONTROL_PLANES.object_path(Key("default", "first"))
        infra = INFRASTRUCTURES.object_path(Key("default", "first"))
        kubeconfig = writes.index(f"{secrets}/first-kubeconfig")
        status = writes.index(f"{own}/status", kubeconfig)
        provisioned_at = writes.index(f"{infra}/status")
        assert kubeconfig < status < provisioned_at
        # The endpoint is older than all of that: a write next to the status would cost a second, as Cluster API looks once a second.
        assert max(writes.index(own), writes.index(infra)) < kubeconfig
        assert not {own, infra} & set(writes[kubeconfig:provisioned_at])
        # Nothing said "initialized" before: every status written earlier was of a control plane that had no version.
        history = [obj for _, path, _, obj in fake_api._history if path == own and "status" in obj]
        first = next(index for index, obj in enumerate(history) if obj["status"]["initialization"]["controlPlaneInitialized"])
        assert all(obj["status"]["version"] == "" for obj in history[:first])
        published = history[first]["status"]
        assert (published["version"], published["externalManagedControlPlane"], published["ready"]) == ("v1.37.2", True, True)
        # kubeadm was through before the status said so.
        assert world.host.count("kubeadm") == 1


async def test_everything_arrives(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await provisioned(world)
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "InfrastructureClusterPatched"), "the last condition")
        infra, own, tenant = world.get(INFRASTRUCTURES, "first"), world.get(CONTROL_PLANES, "first"), world.get(TENANTS, "first")
        assert infra["spec"]["controlPlaneEndpoint"] == own["spec"]["controlPlaneEndpoint"] == {"host": str(ADDRESS), "port": 7443}
        assert infra["status"]["ready"] is True
        assert tenant["spec"]["networkProfile"] == {"port": 7443, "podCidr": "10.1.0.0/16", "serviceCidr": "10.2.0.0/16"}
        assert tenant["spec"]["addons"] == {"coreDNS": {}}
        assert (tenant["spec"]["dataStoreSchema"], tenant["spec"]["dataStore"]) == ("default_first", "default")
        secret = world.get(SECRETS, "first-kubeconfig")
        assert secret["type"] == "cluster.x-k8s.io/secret"
        assert secret["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "first"
        assert f"https://{ADDRESS}:7443" in base64.b64decode(secret["data"]["value"]).decode()
        assert world.get(SECRETS, "first-ca")["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "first"
        for type in (
            "TenantControlPlaneCreated",
            "TenantControlPlaneAddressReady",
            "ControlPlaneEndpointPatched",
            "KubeadmResourcesCreated",
        ):
            assert is_true(own, type), type
        for type in ("KamajiControlPlaneIsInitialized", "KamajiControlPlaneIsReady", "Available"):
            assert is_true(own, type), type
        assert own["status"]["replicas"] == own["status"]["readyReplicas"] == 1
        assert is_true(own, "ReplicasLimited")
        assert own["status"]["selector"] == "kamaji.clastix.io/name=first"


async def test_images_and_limits_are_handed_on(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(
            world,
            addons={"coreDNS": {"imageTag": "v9", "dnsServiceIPs": ["10.2.0.53"]}, "kubeProxy": {"imageRepository": "mirror.example"}},
            apiServer={"resources": {"limits": {"memory": "1Gi"}}},
            scheduler={"resources": {}},
        )
        tenant = await world.until(lambda: world.find(TENANTS, "first"), "the TenantControlPlane")
        assert tenant["spec"]["addons"] == {"coreDNS": {"imageTag": "v9"}, "kubeProxy": {"imageRepository": "mirror.example"}}
        assert tenant["spec"]["controlPlane"]["deployment"]["resources"] == {"apiServer": {"limits": {"memory": "1Gi"}}}


async def test_a_version_that_the_kit_has_no_more_stays_ready_and_says_so(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ready() -> JsonObject:
        return find_condition(world.get(CONTROL_PLANES, "first"), "KamajiControlPlaneIsReady") or {}

    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await world.until(lambda: ready().get("status") == "True", "the control plane")
        world.kit.versions = ["v1.37.3"]
        for callback in world.units.callbacks:
            callback(next(iter(world.units.specs)))
        await world.until(lambda: "upgrade it to v1.37.3" in ready().get("message", ""), "the message")
        assert ready()["status"] == "True"
        assert world.get(CONTROL_PLANES, "first")["status"]["ready"] is True


async def test_a_control_plane_with_another_name_than_its_cluster(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world, "first-cp", "first")
        await addressed(world, "first-cp")
        await provisioned(world)
        assert world.get(SECRETS, "first-ca")["data"] == world.get(SECRETS, "first-cp-ca")["data"]
        assert world.find(SECRETS, "first-kubeconfig") is not None


async def test_the_vpc_is_handed_on(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await world.until(lambda: world.find(TENANTS, "first"), "the TenantControlPlane")
        world.put(INFRASTRUCTURES, infrastructure("first", **{"pilvi.dev_vpc": "blue"}))
        await world.until(
            lambda: world.get(TENANTS, "first")["metadata"].get("annotations", {}).get("pilvi.dev/vpc") == "blue", "the annotation"
        )


async def test_without_a_cluster_nothing_happens(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(CONTROL_PLANES, control_plane("lonely", None))
        apply_all(world)
        await world.until(lambda: world.find(TENANTS, "first"), "the other one")
        assert world.find(TENANTS, "lonely") is None


async def test_a_cluster_that_names_it_need_not_own_it_yet(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        label = {"cluster.x-k8s.io/cluster-name": "first"}
        for name in ("first", "second"):
            made = control_plane(name, None)
            world.put(CONTROL_PLANES, {**made, "metadata": {**made["metadata"], "labels": label}})
        world.put(CLUSTERS, cluster("first", "first"))
        await world.until(lambda: world.find(TENANTS, "first"), "the one that is named")
        await addressed(world)
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "Available"), "the control plane")
        assert world.find(TENANTS, "second") is None


async def test_a_renewed_kubeconfig_is_published_again(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await provisioned(world)
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "InfrastructureClusterPatched"), "the last condition")
        source = world.get(SECRETS, "first-admin-kubeconfig")
        before = source["data"]["admin.conf"]
        assert world.get(SECRETS, "first-kubeconfig")["data"]["value"] == before
        source["metadata"]["annotations"] = {"certs.kamaji.clastix.io/rotate": ""}
        world.put(SECRETS, source)
        now = await world.until(
            lambda: (data := world.get(SECRETS, "first-admin-kubeconfig")["data"]["admin.conf"]) != before and data, "new credentials"
        )
        await world.until(lambda: world.get(SECRETS, "first-kubeconfig")["data"]["value"] == now, "the copy to follow")


async def test_not_managed_says_what_to_add(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        unmanaged = infrastructure()
        del unmanaged["metadata"]["annotations"]["cluster.x-k8s.io/managed-by"]
        world.put(INFRASTRUCTURES, unmanaged)
        await addressed(world)
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "Available"), "the control plane")
        found = find_condition(world.get(CONTROL_PLANES, "first"), "InfrastructureClusterPatched")
        assert found is not None
        assert found["reason"] == "InfrastructureClusterNotManaged"
        assert "managed-by: kamaji" in found["message"]
        assert "status" not in world.get(INFRASTRUCTURES, "first")


async def test_a_persons_endpoint_is_kept(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        named = {"controlPlaneEndpoint": {"host": "api.example.org", "port": 443}}
        world.put(INFRASTRUCTURES, {**infrastructure(), "spec": named})
        await addressed(world)
        await provisioned(world)
        assert world.get(INFRASTRUCTURES, "first")["spec"] == named


@pytest.mark.parametrize("number", range(24))
async def test_a_write_that_fails_is_made_up_for(number: int, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each write of a creation in turn is refused once."""
    count = -1

    def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal count
        if request.method == "GET" or "/events" in request.path:
            return None
        count += 1
        return status_response(503, "ServiceUnavailable") if count == number else None

    fake_api.faults.append(fault)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await provisioned(world)
        assert count >= number


async def test_refused_by_the_api_is_a_condition(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fault(request: web.Request) -> web.StreamResponse | None:
        denied = "tenantcontrolplanes/" in request.path and request.method == "PATCH"
        return status_response(422, "Invalid") if denied else None

    fake_api.faults.append(fault)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)

        def refused() -> bool:
            found = find_condition(world.get(CONTROL_PLANES, "first"), "TenantControlPlaneCreated")
            return found is not None and found["reason"] == "TenantControlPlaneRefused"

        await world.until(refused, "the condition")
        fake_api.faults.remove(fault)
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "TenantControlPlaneCreated"), "the second attempt")


async def test_a_tenant_of_somebody_else_is_not_taken(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        mine = TENANTS.new(
            Key("default", "first"),
            spec={"kubernetes": {"version": "v1.37.2", "kubelet": {}}, "controlPlane": {"service": {"serviceType": "LoadBalancer"}}},
        )
        world.put(TENANTS, mine)
        await addressed(world)
        apply_all(world)

        def refused() -> bool:
            found = find_condition(world.get(CONTROL_PLANES, "first"), "TenantControlPlaneCreated")
            return found is not None and "belongs to somebody else" in found["message"]

        await world.until(refused, "the condition")
        assert "ownerReferences" not in world.get(TENANTS, "first")["metadata"]
        fake_api.remove(TENANTS.object_path(Key("default", "first")))
        await world.until(lambda: "ownerReferences" in (world.find(TENANTS, "first") or {}).get("metadata", {}), "one of our own")


async def test_paused_and_resumed(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(CLUSTERS, cluster(paused=True))
        world.put(CONTROL_PLANES, control_plane())
        await world.until(lambda: is_true(world.get(CONTROL_PLANES, "first"), "Paused"), "Paused")
        assert world.find(TENANTS, "first") is None
        world.put(CLUSTERS, cluster())
        await world.until(lambda: world.find(TENANTS, "first"), "the TenantControlPlane")
        await world.until(lambda: not is_true(world.get(CONTROL_PLANES, "first"), "Paused"), "Paused to go")


async def test_deletion_waits_for_the_tenant(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        apply_all(world)
        await addressed(world)
        await provisioned(world)
        await world.platform.client.delete(CONTROL_PLANES, Key("default", "first"))
        await world.until(lambda: world.find(CONTROL_PLANES, "first") is None, "the end")
        gone = [path for _, path, kind, _ in fake_api._history if kind == "DELETED"]
        assert gone.index(TENANTS.object_path(Key("default", "first"))) < gone.index(CONTROL_PLANES.object_path(Key("default", "first")))
        assert world.units.specs == {}


async def test_data_stores(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stores = DataStore.RESOURCE
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        for name, driver in (("default", "etcd"), ("mine", "PostgreSQL")):
            world.put(stores, stores.new(Key("", name), spec={"driver": driver, "endpoints": ["x:1"]}))
        apply_all(world)
        await world.until(lambda: (world.get(stores, "default", "").get("status") or {}).get("usedBy") == ["default/first"], "usedBy")
        assert world.get(stores, "default", "")["status"]["ready"] is True
        assert world.get(stores, "mine", "")["status"]["ready"] is False
        assert "dataStore: default" in world.get(stores, "mine", "")["status"]["conditions"][0]["message"]
        await world.platform.client.delete(stores, Key("", "default"))
        assert world.find(stores, "default", "") is not None
        await world.platform.client.delete(CONTROL_PLANES, Key("default", "first"))
        await world.until(lambda: world.find(stores, "default", "") is None, "the store to go")
