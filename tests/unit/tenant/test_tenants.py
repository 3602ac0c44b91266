"""Clients and task groups of tenants: they come and go with their control planes, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.kube import Client
from pilvi.lib.deadline import wait_for
from pilvi.runtime import Informers, Supervisor
from pilvi.tenant import TENANT_CONTROL_PLANES, TenantClients, Tenants, TenantUnreachable, engine_kubeconfig
from pilvi.tenant import tenants as tenants_module
from pilvi.tenant.nodes import Tenant
from tests.fake_api import FakeApi
from tests.unit.providers.kamaji.objects import cloud, tenant


def ready(name: str, *, replicas: int = 1) -> JsonObject:
    obj = tenant(name)
    return {
        **obj,
        "metadata": {"name": name, "namespace": "default"},
        "status": {"kubernetesResources": {"deployment": {"name": name, "readyReplicas": replicas}}},
    }


def put(api: FakeApi, obj: JsonObject) -> JsonObject:
    return api.put(TENANT_CONTROL_PLANES.object_path(Key.of(obj)), obj)


def write_kubeconfig(api: FakeApi, home: Path, uid: str) -> None:
    path = engine_kubeconfig(cloud(home), uid)
    path.parent.mkdir(parents=True)
    path.write_text(
        f'{{"clusters": [{{"name": "a", "cluster": {{"server": "{api.kubeconfig.server}"}}}}], "users": [{{"name": "a", "user": {{}}}}],'
        ' "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "current-context": "a"}'
    )


@asynccontextmanager
async def running(api: FakeApi, home: Path) -> AsyncIterator[tuple[TenantClients, Supervisor]]:
    async with Client.open(api.kubeconfig) as client:
        informers, supervisor = Informers(client), Supervisor()
        clients = TenantClients(cloud(home), informers)
        supervisor.start("informers", informers.run())
        supervisor.start("tenants", Tenants(informers, clients, supervisor).run())
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run(stop.wait()))
            try:
                await informers.wait_synced(5)
                yield clients, supervisor
            finally:
                stop.set()


async def test_a_client_for_each_tenant_that_answers(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants_module, "follow_nodes", _for_ever)
    closed: list[Client] = []
    close = Client.aclose

    async def aclose(client: Client) -> None:
        closed.append(client)
        await close(client)

    monkeypatch.setattr(Client, "aclose", aclose)
    key = Key("default", "first")
    async with running(fake_api, tmp_path) as (clients, _):
        with pytest.raises(TenantUnreachable, match="no TenantControlPlane default/first"):
            clients.get(key)
        put(fake_api, ready("first", replicas=0))
        await wait_for(lambda: "does not answer" in _refusal(clients, key), 30, "the control plane to be seen")
        uid = put(fake_api, ready("first"))["metadata"]["uid"]
        await wait_for(lambda: "no credentials" in _refusal(clients, key), 30, "readiness to be seen")
        write_kubeconfig(fake_api, tmp_path, uid)
        client = clients.get(key)
        assert clients.get(key) is client
        fake_api.remove(TENANT_CONTROL_PLANES.object_path(key))
        await wait_for(lambda: client in closed, 30, "the client to be closed")


async def test_groups_come_go_and_fail_alone(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def follow(tenant: Tenant, client: Any, informers: Any) -> None:
        begun.append(tenant.key.name)
        try:
            if tenant.key.name == "broken":
                raise RuntimeError("its own fault")
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(tenant.key.name)

    monkeypatch.setattr(tenants_module, "follow_nodes", follow)
    async with running(fake_api, tmp_path) as (_, supervisor):
        for name in ("good", "broken"):
            stored = put(fake_api, ready(name))
            write_kubeconfig(fake_api, tmp_path, stored["metadata"]["uid"])
        await wait_for(lambda: begun.count("broken") >= 2 and "good" in begun, 10, "the broken group to be started again")
        assert begun.count("good") == 1
        assert ended.count("good") == 0
        fake_api.remove(TENANT_CONTROL_PLANES.object_path(Key("default", "good")))
        await wait_for(lambda: "good" in ended, 30, "the group to end with its tenant")
        await wait_for(lambda: len(supervisor.groups()) == 1, 30, "one group to be left")


async def test_a_tenant_that_moves_to_another_vpc_starts_anew(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def follow(tenant: Tenant, client: Any, informers: Any) -> None:
        seen.append(tenant.vpc)
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(tenants_module, "follow_nodes", follow)
    async with running(fake_api, tmp_path):
        stored = put(fake_api, ready("first"))
        write_kubeconfig(fake_api, tmp_path, stored["metadata"]["uid"])
        await wait_for(lambda: seen == ["ovn-cluster"], 30, "the group to start")
        moved = ready("first")
        moved["metadata"]["annotations"] = {"pilvi.dev/vpc": "blue"}
        put(fake_api, moved)
        await wait_for(lambda: seen == ["ovn-cluster", "blue"], 30, "the group to start anew")


async def _for_ever(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


def _refusal(clients: TenantClients, key: Key) -> str:
    try:
        clients.get(key)
    except TenantUnreachable as e:
        return str(e)
    return ""


async def test_a_pod_network_that_is_none_ends_nobody(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy lets 10.244.0.1/16 through, and one tenant's mistake must not take the engine from all others."""
    seen: list[Tenant] = []

    async def follow(one: Tenant, client: Client, informers: Informers) -> None:
        seen.append(one)
        await asyncio.Event().wait()

    monkeypatch.setattr(tenants_module, "follow_nodes", follow)
    async with running(fake_api, tmp_path):
        first = put(fake_api, ready("a"))
        write_kubeconfig(fake_api, tmp_path, first["metadata"]["uid"])
        await wait_for(lambda: len(seen) == 1, 30, "the first")
        wrong = ready("a")
        wrong["spec"] = {**wrong["spec"], "networkProfile": {"podCidr": "10.244.0.1/16"}}
        put(fake_api, wrong)
        second = put(fake_api, ready("b"))
        write_kubeconfig(fake_api, tmp_path, second["metadata"]["uid"])
        await wait_for(lambda: len(seen) == 2, 30, "the second")
    assert [one.key.name for one in seen] == ["a", "b"]


async def test_a_control_plane_without_a_spec_ends_nobody(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tenant] = []

    async def follow(one: Tenant, client: Client, informers: Informers) -> None:
        seen.append(one)
        await asyncio.Event().wait()

    monkeypatch.setattr(tenants_module, "follow_nodes", follow)
    async with running(fake_api, tmp_path):
        put(fake_api, {"metadata": {"name": "bare", "namespace": "default"}})
        whole = put(fake_api, ready("whole"))
        write_kubeconfig(fake_api, tmp_path, whole["metadata"]["uid"])
        await wait_for(lambda: len(seen) == 1, 30, "the whole one")
    assert seen[0].key.name == "whole"
