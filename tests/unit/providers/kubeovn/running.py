"""Controllers at work on a small API server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from pilvi.api import JsonObject, Key, Resource
from pilvi.kube import Client
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller, EventRecorder, Informers
from tests.fake_api import FakeApi
from tests.unit.providers.kubeovn.objects import CLOUD


@asynccontextmanager
async def running(api: FakeApi, make: Callable[[Platform], list[Controller]]) -> AsyncIterator[None]:
    """Run the controllers that `make` makes, as the engine would; they need no units."""
    async with Client.open(api.kubeconfig) as client:
        informers, events = Informers(client), EventRecorder(client, "test")
        platform = cast(Platform, SimpleNamespace(cloud=CLOUD, client=client, informers=informers, events=events))
        controllers = make(platform)

        async def engine() -> None:
            async with asyncio.TaskGroup() as group:
                for controller in controllers:
                    group.create_task(controller.run(informers))
                group.create_task(events.run())
                await asyncio.sleep(0)  # the controllers have asked for their informers
                group.create_task(informers.run())

        task = asyncio.create_task(engine())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error


def put(api: FakeApi, resource: Resource, obj: JsonObject) -> JsonObject:
    """Write an object as somebody else."""
    return api.put(resource.object_path(Key.of(obj)), obj)


def find(api: FakeApi, resource: Resource, name: str, namespace: str = "") -> JsonObject | None:
    return api.objects.get(resource.object_path(Key(namespace, name)))


def remove(api: FakeApi, resource: Resource, name: str, namespace: str = "") -> None:
    api.remove(resource.object_path(Key(namespace, name)))


def events_of(api: FakeApi) -> list[str]:
    """The reasons of all Events so far."""
    return [obj["reason"] for path, obj in api.objects.items() if "/events/" in path]


async def wait_for(what: str, predicate: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Wait until `predicate()` is true and return it."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"no {what} within {timeout_s:g} s"
        await asyncio.sleep(0.01)
    return value


async def quiet(api: FakeApi, rest_s: float = 0.15) -> None:
    """Wait until no request has come for a while: whatever was to happen has happened."""
    seen, since = len(api.requests), time.monotonic()
    while time.monotonic() - since < rest_s:
        await asyncio.sleep(0.02)
        if len(api.requests) != seen:
            seen, since = len(api.requests), time.monotonic()
