"""A cache of all objects of one kind, kept up to date by list and watch.

The states are those of kube-rs' watcher: list, then watch from the list's version; resume after a broken stream; list again after
410. A re-list is compared with the cache, so that deletions which nobody saw are still told. Readers get the cached dicts
themselves: they are shared, treat them as read-only. `metadata.managedFields` is dropped, nobody here reads it and it is large.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable, Hashable, Iterable
from typing import TypeAlias

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import ApiError, ApiUnreachable, Expired, Transient, format_chain
from pilvi.kube import Client, Selector, WatchEvent
from pilvi.lib.backoff import Backoff
from pilvi.runtime.writes import current_writes

__all__ = ["Handler", "IndexFunction", "Informer"]

log = logging.getLogger(__name__)

# (old, new): None as old means added, None as new means deleted.
Handler: TypeAlias = Callable[[JsonObject | None, JsonObject | None], None]
_Objects: TypeAlias = list[JsonObject]  # named here, since the method `list` shadows the type
IndexFunction: TypeAlias = Callable[[JsonObject], Iterable[Hashable]]

SEEN_TIMEOUT_S = 5.0
REFUSALS_BEFORE_LIST = 3
HASTE_S = 5.0
REPEAT_WARNING_S = 60.0


class Informer:
    """All objects of `resource`, in one namespace or all, narrowed by selectors. Get one from `Informers`, which shares and runs it."""

    def __init__(
        self, client: Client, resource: Resource, *, namespace: str | None = None, labels: Selector = None, fields: Selector = None
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.labels = labels
        self.fields = fields
        self.synced = asyncio.Event()
        """Set after the first whole list; the cache never becomes unsynced again."""
        self.last_contact = 0.0
        """`time.monotonic()` of the last answer, event or bookmark; for health checks."""
        self._client = client
        self._objects: dict[Key, JsonObject] = {}
        self._indices: dict[str, _Index] = {}
        self._handlers: list[Handler] = []
        self._version = ""
        self._progress = 0
        self._seen_waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._last_warning = ("", 0.0)

    def __len__(self) -> int:
        return len(self._objects)

    # Reading

    def get(self, key: Key) -> JsonObject | None:
        """The cached object or None, as of a dict. Absence in a cache is no error, it may only be late."""
        return self._objects.get(key)

    def list(self, namespace: str | None = None) -> _Objects:
        """All cached objects, or those of one namespace."""
        if namespace is None:
            return [*self._objects.values()]
        return [obj for key, obj in self._objects.items() if key.namespace == namespace]

    def keys(self) -> Iterable[Key]:
        """The keys of all cached objects."""
        return self._objects.keys()

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Keep an index: `function` gives the values under which an object is found. The same name again is a no-op.

        A function that is shared by several controllers has to be the same under the same name.
        """
        if name not in self._indices:
            index = self._indices[name] = _Index(function)
            for key, obj in self._objects.items():
                index.put(key, None, obj)

    def by_index(self, name: str, value: Hashable) -> _Objects:
        """The objects that the index `name` holds under `value`. KeyError when there is no such index."""
        return [self._objects[key] for key in self._indices[name].keys_of(value)]

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call `handler(old, new)` after every change; for objects cached already at once, as added. Returns how to stop it.

        Handlers are plain functions that compute keys and return. An exception in one ends the informer, and so the process.
        """
        self._handlers.append(handler)
        for obj in [*self._objects.values()]:
            handler(None, obj)
        return lambda: self._handlers.remove(handler)

    # Read your writes

    def expect(self, obj: JsonObject) -> None:
        """Say that `obj` is what a write just returned. The key being reconciled then waits until this cache has seen it.

        Outside a reconcile this does nothing. Writes through the client that feeds the informers are noticed by themselves.
        """
        writes = current_writes.get()
        if writes is not None:
            writes.append((self, int(obj["metadata"]["resourceVersion"])))

    async def wait_seen(self, version: int, timeout_s: float = SEEN_TIMEOUT_S) -> bool:
        """Wait until the cache has reached the resource version, or `timeout_s`. Returns whether it has.

        Versions of one kind are ordered integers (KEP-5504), and a watch delivers in their order.
        """
        if self._progress >= version:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._seen_waiters, (version, next(self._ticket), future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        return True

    # Keeping up to date

    async def run(self) -> None:
        """Keep the cache up to date until cancelled. Whatever the API answers is retried; only a bug raises."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.1, 5.0)
        refusals = 0
        while True:
            started, contact = loop.time(), self.last_contact
            try:
                if not self._version:
                    await self._list()
                contact = self.last_contact  # only what the watch tells counts: lists may succeed where every watch is refused
                await self._watch()
            except Expired as e:
                log.info("listing %s again: %s", self.resource, format_chain(e))
                self._version = ""
            except (ApiError, Transient) as e:
                self._warn(format_chain(e))
                # Resume where the stream broke. But when a server that answers refuses several times, the version itself may
                # be what it dislikes (an etcd restored from a backup): then list again.
                refusals = refusals + 1 if isinstance(e, ApiError) else 0
                if refusals >= REFUSALS_BEFORE_LIST:
                    self._version, refusals = "", 0
                await asyncio.sleep(_asked_s(e))
            if self.last_contact > contact:
                refusals = 0
                backoff.reset()
            if loop.time() - started < HASTE_S:
                # Whatever ended the stream so soon, the server must not be asked in a tight loop.
                await asyncio.sleep(backoff.next_s())

    async def _list(self) -> None:
        found = await self._client.list_with_version(self.resource, namespace=self.namespace, labels=self.labels, fields=self.fields)
        listed = {Key.of(obj): obj for obj in found.items}
        for key in [key for key in self._objects if key not in listed]:
            self._store(key, None)
        for key, obj in listed.items():
            cached = self._objects.get(key)
            if cached is None or cached["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                self._store(key, obj)
        self._advance(found.resource_version)
        if not self.synced.is_set():
            log.debug("synced %s: %d objects", self.resource, len(self._objects))
            self.synced.set()

    async def _watch(self) -> None:
        async with self._client.watch(
            self.resource, resource_version=self._version, namespace=self.namespace, labels=self.labels, fields=self.fields
        ) as events:
            async for event in events:
                self._take(event)

    def _take(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK":
            self._store(Key.of(event.object), None if event.type == "DELETED" else event.object)
        self._advance(event.resource_version)

    def _store(self, key: Key, obj: JsonObject | None) -> None:
        old = self._objects.get(key)
        if obj is not None:
            obj["metadata"].pop("managedFields", None)
            self._objects[key] = obj
        elif old is not None:
            del self._objects[key]
        else:
            return
        for index in self._indices.values():
            index.put(key, old, obj)
        if old is not None and obj is not None and old["metadata"].get("uid") != obj["metadata"].get("uid"):
            # Deleted and made anew while nobody was looking: two changes, not one.
            self._tell(old, None)
            old = None
        self._tell(old, obj)

    def _tell(self, old: JsonObject | None, new: JsonObject | None) -> None:
        for handler in [*self._handlers]:
            handler(old, new)

    def _advance(self, version: str) -> None:
        self._version = version
        self._progress = int(version)
        self.last_contact = time.monotonic()
        while self._seen_waiters and self._seen_waiters[0][0] <= self._progress:
            _, _, future = heapq.heappop(self._seen_waiters)
            if not future.done():
                future.set_result(None)

    def _warn(self, message: str) -> None:
        # An API server that is down for an hour is worth a line a minute, not ten a second.
        last_message, last_time = self._last_warning
        if message != last_message or time.monotonic() - last_time > REPEAT_WARNING_S:
            self._last_warning = (message, time.monotonic())
            log.warning("cannot follow %s, trying again: %s", self.resource, message)


class _Index:
    """Keys by value. `function` may give an object several values, or none."""

    def __init__(self, function: IndexFunction) -> None:
        self._function = function
        self._keys: dict[Hashable, dict[Key, None]] = {}

    def keys_of(self, value: Hashable) -> list[Key]:
        return [*self._keys.get(value, ())]

    def put(self, key: Key, old: JsonObject | None, new: JsonObject | None) -> None:
        before = set(self._function(old)) if old is not None else set()
        after = set(self._function(new)) if new is not None else set()
        for value in before - after:
            keys = self._keys[value]
            del keys[key]
            if not keys:
                del self._keys[value]
        for value in after - before:
            self._keys.setdefault(value, {})[key] = None


def _asked_s(error: Exception) -> float:
    return error.retry_after_s if isinstance(error, Transient) and not isinstance(error, ApiUnreachable) else 0.0
