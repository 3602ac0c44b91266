"""Controllers on a small API server, with everything below the API replaced: what their tests stand on."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from aiohttp import web

from pilvi.api import JsonObject, Key, Resource
from pilvi.host.cloud import Cloud
from pilvi.kube import Client
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.fake_api import FakeApi, status_response

PATIENCE_S = 30.0


def make_cloud(home: Path) -> Cloud:
    return Cloud(
        id="abcde",
        home=home,
        run=home / "run",
        range=IPv4Network("10.250.0.0/24"),
        transit=IPv4Network("100.64.0.0/24"),
        uid_base=100_000,
        uid_count=1000,
    )


class NoUnits:
    """Units that nobody starts; tests wake the subscribers by hand."""

    def __init__(self) -> None:
        self.subscribers: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> None:
        self.subscribers.append(callback)


class NoKit:
    def built_versions(self) -> list[str]:
        return ["v1.37.2"]

    def has_kubernetes(self, version: str) -> bool:
        return version in self.built_versions()

    def get_binary(self, name: str, kubernetes: str | None = None) -> Path:
        raise AssertionError(f"no test needs {name}")


@dataclass
class Stage:
    """What a test looks at and changes. `put` and `find` go to the server, as another program would."""

    api: FakeApi
    platform: Platform
    units: NoUnits
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def put(self, resource: Resource, obj: JsonObject) -> JsonObject:
        metadata = obj["metadata"]
        key = Key(metadata.get("namespace") or "", metadata["name"])
        typed = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return self.api.put(resource.object_path(key), typed)

    def find(self, resource: Resource, name: str, namespace: str = "") -> JsonObject | None:
        return self.api.objects.get(resource.object_path(Key(namespace, name)))

    def get(self, resource: Resource, name: str, namespace: str = "") -> JsonObject:
        obj = self.find(resource, name, namespace)
        assert obj is not None, f"no {resource.kind} {namespace}/{name}; there are {[*self.api.objects]}"
        return obj

    async def until(self, predicate: Callable[[], Any], what: str = "") -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := predicate()):
            for task in self.tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"did not come true in time: {what or predicate}"
            await asyncio.sleep(0.01)
        return found

    async def settled(self, quiet_s: float = 0.15) -> None:
        """Wait until no write has come for a while: whatever the controllers do in circles shows here as a failure."""
        deadline = time.monotonic() + PATIENCE_S
        seen, since = self._writes(), time.monotonic()
        while time.monotonic() - since < quiet_s:
            assert time.monotonic() < deadline, f"the controllers do not come to rest: {self.api.requests[-6:]}"
            await asyncio.sleep(0.01)
            if self._writes() != seen:
                seen, since = self._writes(), time.monotonic()

    def fail_write(self, number: int, code: int, reason: str, *, but: str) -> None:
        """Refuse the write with that number, counted from now; Events and Leases do not count, nor does deleting `but`, the test's own."""
        numbers = itertools.count(1)

        def fault(request: web.Request) -> web.StreamResponse | None:
            if request.method == "GET" or "/events" in request.path or "/leases" in request.path:
                return None
            if (request.method, request.path) == ("DELETE", but):
                return None
            return status_response(code, reason) if next(numbers) == number else None

        self.api.faults.append(fault)

    def _writes(self) -> int:
        return sum(1 for method, path in self.api.requests if method != "GET" and "/events" not in path and "/leases" not in path)


@asynccontextmanager
async def on_stage(
    api: FakeApi, home: Path, build: Callable[[Platform], list[Controller]], cloud: Cloud | None = None
) -> AsyncIterator[Stage]:
    """Run the controllers that `build` makes against `api`."""
    async with Client.open(api.kubeconfig) as client:
        units = NoUnits()
        informers = Informers(client)
        cloud = cloud or make_cloud(home)
        platform = Platform(
            cloud=cloud,
            client=client,
            informers=informers,
            units=units,  # type: ignore[arg-type]
            events=EventRecorder(client, "test"),
            kit=NoKit(),
            tenants=TenantClients(cloud, informers),
        )
        stage = Stage(api, platform, units)
        controllers = build(platform)
        mains = [informers.run(), platform.events.run(), *(controller.run(informers) for controller in controllers)]
        stage.tasks = [asyncio.create_task(main) for main in mains]
        try:
            yield stage
        finally:
            for task in stage.tasks:
                task.cancel()
            await asyncio.wait(stage.tasks)
