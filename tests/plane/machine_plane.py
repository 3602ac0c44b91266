"""A real API server with scheduler and controller manager, and on it the controllers under test with machines that are not real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from pilvi import kit
from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import NAMESPACES, SERVICE_ACCOUNTS
from pilvi.api.crds import all_crds, all_policies
from pilvi.kube import Client, Kubeconfig, apply_all
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.plane.apiserver import ApiServer
from tests.unit.providers.stage import NoKit, NoUnits, make_cloud

TIMEOUT_S = 60.0


class MachinePlane(ApiServer):
    """An ApiServer with the other two components, our kinds, and Cluster API's kinds without their webhooks."""

    def start_components(self) -> None:
        """Once the kinds are there: the garbage collector looks for new ones every half minute only."""
        kubeconfig = self.home / "components.conf"
        kubeconfig.write_text(json.dumps(_kubeconfig(self.port)))
        self._spawn("kube-scheduler", f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*",
            f"--service-account-private-key-file={self.home}/sa.key",
            "--kube-api-qps=300",
            "--kube-api-burst=600",
        )

    def stop(self) -> None:
        # An API server that is asked politely waits for its watches to end, whose other ends are gone.
        for process in reversed(self.processes):
            process.kill()
            process.wait(timeout=10)

    def kubeconfig(self) -> Kubeconfig:
        return Kubeconfig(server=f"https://127.0.0.1:{self.port}", token="engine-token", insecure=True)


class Scene:
    """One test's view: a namespace of its own, a client, and the platform that the controllers got."""

    def __init__(self, namespace: str, client: Client, platform: Platform, tasks: list[asyncio.Task[Any]]) -> None:
        self.namespace = namespace
        self.client = client
        self.platform = platform
        self._tasks = tasks

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    async def put(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """Create the object, its namespaced parts in this scene's namespace, and its status if it has one."""
        metadata = {name: value for name, value in obj["metadata"].items() if name != "uid"}
        if resource.namespaced:
            metadata["namespace"] = self.namespace
        stored = await self.client.create(resource, {**obj, "metadata": metadata})
        if obj.get("status"):
            stored = await self.client.patch(resource, Key.of(stored), {"status": obj["status"]}, subresource="status")
        return stored

    async def until(self, resource: Resource, name: str, predicate: Callable[[JsonObject], Any], what: str = "") -> JsonObject:
        """Read the object until `predicate` holds."""
        key = Key(self.namespace if resource.namespaced else "", name)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            self._check()
            obj = await self.client.find(resource, key)
            if obj is not None and predicate(obj):
                return obj
            assert time.monotonic() < deadline, f"{resource.kind} {key}: {what or predicate} did not come true: {obj}"
            await asyncio.sleep(0.02)

    async def until_listed(self, resource: Resource, predicate: Callable[[JsonObject], Any]) -> None:
        """List the kind until one of the namespace's objects is as the predicate says."""
        deadline = time.monotonic() + TIMEOUT_S
        while not any(predicate(obj) for obj in await self.client.list(resource, namespace=self.namespace)):
            self._check()
            assert time.monotonic() < deadline, f"no such {resource.kind}"
            await asyncio.sleep(0.02)

    async def until_gone(self, resource: Resource, name: str) -> None:
        key = Key(self.namespace if resource.namespaced else "", name)
        deadline = time.monotonic() + TIMEOUT_S
        while (obj := await self.client.find(resource, key)) is not None:
            self._check()
            assert time.monotonic() < deadline, f"{resource.kind} {key} does not go: {obj}"
            await asyncio.sleep(0.02)

    def _check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


@contextmanager
def running_plane(home: Path, *more_flags: str) -> Iterator[MachinePlane]:
    server = MachinePlane(home, more_flags=more_flags)
    try:
        server.start()
        asyncio.run(_install(server))
        server.wait_in_force()
        server.start_components()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def on_plane(
    server: MachinePlane, namespace: str, home: Path, build: Callable[[Platform], list[Controller]], *, hosts: int = 1
) -> AsyncIterator[Scene]:
    """Run the controllers that `build` makes, with a fresh namespace, in a cloud of so many hosts."""
    async with Client.open(server.kubeconfig()) as client:
        informers, cloud = Informers(client), msgspec.structs.replace(make_cloud(home), hosts=hosts)
        platform = Platform(
            cloud=cloud,
            client=client,
            informers=informers,
            units=NoUnits(),  # type: ignore[arg-type]
            events=EventRecorder(client, "test"),
            kit=NoKit(),
            tenants=TenantClients(cloud, informers),
        )
        mains = [informers.run(), platform.events.run(), *(controller.run(informers) for controller in build(platform))]
        tasks = [asyncio.create_task(main) for main in mains]
        scene = Scene(namespace, client, platform, tasks)
        try:
            await client.create(NAMESPACES, {"metadata": {"name": namespace}})
            await scene.until(SERVICE_ACCOUNTS, "default", bool)
            yield scene
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


UPSTREAM_KINDS = {f"{plural}.cluster.x-k8s.io" for plural in ("clusters", "machines", "machinesets")}


async def _install(server: MachinePlane) -> None:
    async with Client.open(server.kubeconfig()) as client:
        upstream = [
            {**crd, "spec": {**crd["spec"], "conversion": {"strategy": "None"}}}
            for crd in kit.cluster_api_manifests("https://127.0.0.1:1", "https://127.0.0.1:1", b"none")
            if crd["kind"] == "CustomResourceDefinition" and crd["metadata"]["name"] in UPSTREAM_KINDS
        ]
        await apply_all(client, [*upstream, *all_crds(), *all_policies(["v1.37.2"])], manager="test")


def _kubeconfig(port: int) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": "admin-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
