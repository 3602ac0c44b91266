"""The two client calls that an informer makes, from memory: for controllers in virtual time, where no socket may be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pilvi.api import JsonObject, Key, Resource
from pilvi.kube import ObjectList, WatchEvent


class MemoryClient:
    """Objects by resource and key. `write` is what an API write is to an informer; `delay_s` is how late the watch tells it."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.on_write: Any = None
        self.delay_s = delay_s
        self._objects: dict[tuple[Resource, Key], JsonObject] = {}
        self._version = 0
        self._watches: list[tuple[Resource, asyncio.Queue[WatchEvent]]] = []

    def write(self, resource: Resource, obj: JsonObject) -> JsonObject:
        key = Key.of(obj)
        old = self._objects.get((resource, key))
        self._version += 1
        generation = (old["metadata"]["generation"] if old else 0) + (old is None or old.get("spec") != obj.get("spec"))
        metadata = {"uid": f"uid-{key.name}", **obj["metadata"], "generation": generation, "resourceVersion": str(self._version)}
        stored = {**obj, "metadata": metadata}
        self._objects[resource, key] = stored
        self._tell(resource, WatchEvent("MODIFIED" if old else "ADDED", stored))
        if self.on_write is not None:
            self.on_write(resource, stored)
        return stored

    def remove(self, resource: Resource, key: Key) -> None:
        obj = self._objects.pop((resource, key))
        self._version += 1
        gone = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
        self._tell(resource, WatchEvent("DELETED", gone))

    async def list_with_version(self, resource: Resource, **selection: Any) -> ObjectList:
        items = [{**obj, "metadata": {**obj["metadata"]}} for (kind, _), obj in self._objects.items() if kind == resource]
        return ObjectList(items, str(self._version))

    @asynccontextmanager
    async def watch(self, resource: Resource, **selection: Any) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (resource, queue)
        self._watches.append(entry)

        async def events() -> AsyncIterator[WatchEvent]:
            while True:
                event = await queue.get()
                yield WatchEvent(event.type, {**event.object, "metadata": {**event.object["metadata"]}})

        try:
            yield events()
        finally:
            self._watches.remove(entry)

    def _tell(self, resource: Resource, event: WatchEvent) -> None:
        for kind, queue in self._watches:
            if kind == resource:
                asyncio.get_running_loop().call_later(self.delay_s, queue.put_nowait, event)
