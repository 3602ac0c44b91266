"""A platform for controllers under test: a fake API server, no host. What the host is asked to do is noted down."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import TimedOut, UnitFailed, UserError
from pilvi.host.units import UnitSpec, UnitState
from pilvi.host.units.probes import Probe
from pilvi.kube import Client
from pilvi.lib.deadline import wait_for
from pilvi.providers import kamaji
from pilvi.providers.kamaji.tenantcontrolplane import ending, phases
from pilvi.providers.platform import Platform, Settings
from pilvi.runtime import EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.fake_api import FakeApi
from tests.unit.providers.kamaji.objects import ADDRESS, cloud


class FakeKit:
    def __init__(self) -> None:
        self.versions = ["v1.36.3", "v1.37.2"]

        self.present: set[str] = set()

    def built_versions(self) -> list[str]:
        return self.versions

    def has_kubernetes(self, version: str) -> bool:
        return version in self.versions or version in self.present

    def get_binary(self, name: str, kubernetes: str | None = None) -> Path:
        if kubernetes and not self.has_kubernetes(kubernetes):
            raise UserError(f"Kubernetes version {kubernetes} is not in the kit", hint="")
        return Path("/kit") / (kubernetes or "") / name


class FakeUnits:
    """Units that are ready as soon as they are asked for, unless they are `dead` or `slow`."""

    def __init__(self) -> None:
        self.specs: dict[str, UnitSpec] = {}
        self.log: list[str] = []
        self.dead = False
        self.slow = False
        self.callbacks: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> None:
        self.callbacks.append(callback)

    async def ensure(self, spec: UnitSpec) -> UnitState:
        if self.specs.get(spec.name) != spec:
            self.specs[spec.name] = spec
            self.log.append(f"start {spec.name}")
        return self.state(spec.name)

    async def find_obstacle(self, name: str) -> str | None:
        return "refused" if self.dead or self.slow else None

    async def wait_ready(self, name: str, timeout_s: float, probe: Probe | None = None) -> None:
        if self.dead:
            raise UnitFailed(name, "ended before it was ready", "last words")
        if self.slow:
            self.log.append("slow")
            await asyncio.sleep(timeout_s)
            raise TimedOut(f"unit {name} to be ready", timeout_s)
        self.log.append(f"{'serves' if probe else 'ready'} {name}")

    async def stop(self, name: str, grace_s: float | None = None) -> None:
        if self.specs.pop(name, None) is not None:
            self.log.append(f"stop {name}")

    def state(self, name: str) -> UnitState:
        if name not in self.specs:
            return UnitState(name=name, state="absent")
        return UnitState(name=name, state="running", pid=abs(hash(self.specs[name].argv)), started_at=time.time())


class World:
    """The platform, and what was done to the host."""

    def __init__(self, api: FakeApi, platform: Platform, units: FakeUnits, kit: FakeKit, host: list[str]) -> None:
        self.api, self.platform, self.units, self.kit, self.host = api, platform, units, kit, host

    def find(self, resource: Resource, name: str, namespace: str = "default") -> JsonObject | None:
        """A copy of the stored object, for tests to change."""
        return copy.deepcopy(self.api.objects.get(resource.object_path(Key(namespace, name))))

    def get(self, resource: Resource, name: str, namespace: str = "default") -> JsonObject:
        found = self.find(resource, name, namespace)
        assert found is not None, f"there is no {resource.kind} {name}"
        return found

    def put(self, resource: Resource, obj: JsonObject, **changes: Any) -> JsonObject:
        """Store an object as somebody else would; the stored status is kept unless given."""
        key = Key.of(obj)
        path = resource.object_path(key)
        metadata = {name: value for name, value in obj["metadata"].items() if name not in ("uid", "resourceVersion", "generation")}
        return self.api.put(path, {**resource.new(key), **obj, "metadata": metadata, **changes})

    async def until(self, predicate: Callable[[], Any], what: str) -> Any:
        return await wait_for(predicate, 10, what, interval_s=0.01)


def without_host(monkeypatch: Any, kit: FakeKit, tenant_client: Client) -> list[str]:
    """Keep the controllers from touching the host; returns the list in which is noted what they wanted to do."""
    host: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        async def call(*arguments: Any) -> None:
            host.append(name)

        return call

    monkeypatch.setattr(phases, "ensure_netns", note("netns"))
    monkeypatch.setattr(phases, "apply_network", note("network"))
    monkeypatch.setattr(phases, "ensure_inside", note("kubeadm"))
    monkeypatch.setattr(phases, "install_files", lambda plane, files: host.append("files"))
    monkeypatch.setattr(ending, "delete_netns", note("delete netns"))
    monkeypatch.setattr("pilvi.kit.get_binary", kit.get_binary)
    monkeypatch.setattr(TenantClients, "open", lambda self, tenant: tenant_client)
    return host


@asynccontextmanager
async def started_world(
    api: FakeApi, monkeypatch: Any, home: Path, *, leaf_lifetime: timedelta = timedelta(days=365)
) -> AsyncIterator[World]:
    """All controllers of `kamaji` running against `api`; a load balancer that answers each Service at once."""
    units, kit = FakeUnits(), FakeKit()
    async with Client.open(api.kubeconfig) as client:
        host = without_host(monkeypatch, kit, client)
        informers = Informers(client)
        events = EventRecorder(client, "test")
        here = cloud(home)
        platform = Platform(
            here,
            client,
            informers,
            units,  # type: ignore[arg-type]
            events,
            kit,
            TenantClients(here, informers),
            Settings(leaf_lifetime=leaf_lifetime),
        )
        controllers = kamaji.controllers(platform)
        for each in controllers:
            each.informers(informers)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(informers.run()), *(group.create_task(each.run(informers)) for each in controllers)]
            await informers.wait_synced(10)
            try:
                yield World(api, platform, units, kit, host)
            finally:
                for task in tasks:
                    task.cancel()


def give_address(world: World, service: JsonObject) -> JsonObject:
    """What the load balancer does."""
    return world.put(Resource("", "v1", "services", "Service"), service, status={"loadBalancer": {"ingress": [{"ip": str(ADDRESS)}]}})
