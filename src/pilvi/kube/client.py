"""An async client for one API server.

Objects are plain dicts. Each method is one request (list: one per page) with a deadline; what the server refuses is raised by
its reason, a server that gives no answer as ApiUnreachable. Caches, retries and ordering belong to `runtime`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import msgspec
from aiohttp import ClientWebSocketResponse

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import Expired, NotFound
from pilvi.kube.kubeconfig import Kubeconfig, load_kubeconfig
from pilvi.kube.selectors import Selector, render_selector
from pilvi.kube.transport import Request, Transport
from pilvi.kube.watch import SILENCE_S, WatchEvent, read_events, watch_timeout_s

__all__ = ["Client", "ObjectList"]

PAGE_SIZE = 500

JSON_TYPE = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML; servers before 1.32 do not know apply-patch+cbor or +json

JsonPatch: TypeAlias = list[JsonObject]
Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """All objects of a list and the resource version from which a watch goes on."""

    items: list[JsonObject]
    resource_version: str


class Client:
    """Talks to one API server. Open with `Client.open`, close with `aclose` or as an async context manager.

    Every method raises: the subclass of ApiError that the server's Status stands for; ApiUnreachable when there was no whole
    answer within the deadline (for a write the outcome is then unknown). Namespace and name of a written object are taken from
    its metadata; `apiVersion` and `kind` are filled in from the resource when they are missing.
    """

    def __init__(self, transport: Transport, *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.on_write: Callable[[Resource, JsonObject], None] | None = None
        """Called with each object that a write of this client returned. The informers use it for read-your-writes."""
        self._transport = transport

    @classmethod
    def open(cls, kubeconfig: Path | Kubeconfig, *, timeout_s: float = 30.0, user_agent: str = "pilvi") -> Self:
        """A client for the current context of the kubeconfig file, or for one already read. Makes no connection yet.

        `timeout_s` is the default deadline of a request. Must be called inside a running event loop. Raises UserError.
        """
        if isinstance(kubeconfig, Kubeconfig):
            return cls(Transport(kubeconfig, user_agent=user_agent), timeout_s=timeout_s)
        path = kubeconfig
        transport = Transport(load_kubeconfig(path), user_agent=user_agent, reload=lambda: load_kubeconfig(path))
        return cls(transport, timeout_s=timeout_s)

    @property
    def kubeconfig(self) -> Kubeconfig:
        """Where this client is connected to, and as whom."""
        return self._transport.kubeconfig

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        await self.aclose()

    # Reading

    async def get(self, resource: Resource, key: Key, *, timeout_s: float | None = None) -> JsonObject:
        """The object; NotFound when there is none."""
        return await self._object("GET", resource, resource.object_path(key), key, timeout_s=timeout_s)

    async def find(self, resource: Resource, key: Key, *, timeout_s: float | None = None) -> JsonObject | None:
        """The object, or None when there is none (or its kind is not served)."""
        try:
            return await self.get(resource, key, timeout_s=timeout_s)
        except NotFound:
            return None

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        fields: Selector = None,
        timeout_s: float | None = None,
    ) -> list[JsonObject]:
        """All objects of the kind (in one namespace, or in all), as `list_with_version`."""
        found = await self.list_with_version(resource, namespace=namespace, labels=labels, fields=fields, timeout_s=timeout_s)
        return found.items

    async def list_with_version(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Selector = None,
        fields: Selector = None,
        timeout_s: float | None = None,
    ) -> ObjectList:
        """All objects with the resource version to watch from. `timeout_s` is the deadline per page of 500.

        A continue token that expires half-way (a slow reader, a busy server) makes the list start again, once.
        """
        query = _query(limit=str(PAGE_SIZE), labelSelector=render_selector(labels), fieldSelector=render_selector(fields))
        try:
            return await self._list_pages(resource, namespace, query, timeout_s)
        except Expired:
            return await self._list_pages(resource, namespace, query, timeout_s)

    async def _list_pages(self, resource: Resource, namespace: str | None, query: Mapping[str, str], timeout_s: float | None) -> ObjectList:
        items: list[JsonObject] = []
        page_query = dict(query)
        while True:
            what = f"list {resource}"
            page = msgspec.json.decode(await self.raw("GET", resource.path(namespace), query=page_query, timeout_s=timeout_s, what=what))
            for item in page.get("items") or []:
                # Lists of builtin kinds leave these two out of their items.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            if not (token := page["metadata"].get("continue")):
                return ObjectList(items, page["metadata"]["resourceVersion"])
            page_query["continue"] = token

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str | None = None,
        labels: Selector = None,
        fields: Selector = None,
        silence_s: float = SILENCE_S,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Events after `resource_version`, bookmarks included, until the server ends the stream (5 to 10 minutes).

            async with client.watch(PODS, resource_version=version) as events:
                async for event in events: ...

        Raises Expired when that version is too old (list again), otherwise as `watch.read_events`. The connection is closed on
        leaving the block.
        """
        what = f"watch {resource}"
        query = _query(
            watch="1",
            resourceVersion=resource_version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(watch_timeout_s()),
            labelSelector=render_selector(labels),
            fieldSelector=render_selector(fields),
        )
        request = Request("GET", resource.path(namespace), what, query)
        async with (
            self._transport.stream(request, self.timeout_s) as content,
            aclosing(read_events(content, what, silence_s=silence_s)) as events,
        ):
            yield events

    # Writing

    async def create(
        self, resource: Resource, obj: JsonObject, *, manager: str | None = None, dry_run: bool = False, timeout_s: float | None = None
    ) -> JsonObject:
        """Create the object and return it as stored; AlreadyExists when the name is taken. `generateName` works."""
        metadata = obj["metadata"]
        key = Key(metadata.get("namespace") or "", metadata.get("name") or metadata.get("generateName", ""))
        query = _query(fieldManager=manager, dryRun="All" if dry_run else None)
        path = resource.path(key.namespace)
        return await self._object("POST", resource, path, key, body=_complete(resource, obj), query=query, timeout_s=timeout_s)

    async def apply(
        self,
        resource: Resource,
        obj: JsonObject,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        subresource: str | None = None,
        timeout_s: float | None = None,
    ) -> JsonObject:
        """Server-side apply: make the fields in `obj` so, own them as `manager`, drop those that `manager` owned and left out.

        Creates the object when it is missing. Without `force`, a field that another manager owns is a Conflict.
        """
        key = Key.of(obj)
        query = _query(fieldManager=manager, force="true" if force else "false", dryRun="All" if dry_run else None)
        body = _complete(resource, obj)
        path = resource.object_path(key, subresource)
        return await self._object("PATCH", resource, path, key, body=body, query=query, content_type=APPLY_PATCH, timeout_s=timeout_s)

    async def apply_status(
        self,
        resource: Resource,
        obj: JsonObject,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        timeout_s: float | None = None,
    ) -> JsonObject:
        """Server-side apply of `obj["status"]` through the status subresource. NotFound when the object is gone.

        Only name, namespace and (if given) UID and resource version of the metadata are sent besides the status: the UID keeps
        the status of an old object from landing on a new one of the same name, and a resource version makes it a Conflict when
        somebody wrote in between.
        """
        metadata = {name: obj["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion") if obj["metadata"].get(name)}
        return await self.apply(
            resource,
            {"metadata": metadata, "status": obj["status"]},
            manager=manager,
            force=force,
            dry_run=dry_run,
            subresource="status",
            timeout_s=timeout_s,
        )

    async def patch(
        self,
        resource: Resource,
        key: Key,
        body: JsonObject | JsonPatch,
        *,
        subresource: str | None = None,
        manager: str | None = None,
        dry_run: bool = False,
        timeout_s: float | None = None,
    ) -> JsonObject:
        """JSON merge patch when `body` is a dict, JSON patch when it is a list of operations.

        A merge patch with `metadata.resourceVersion` is a Conflict when the object changed since.
        """
        content_type = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        query = _query(fieldManager=manager, dryRun="All" if dry_run else None)
        path = resource.object_path(key, subresource)
        return await self._object("PATCH", resource, path, key, body=body, query=query, content_type=content_type, timeout_s=timeout_s)

    async def replace(
        self,
        resource: Resource,
        obj: JsonObject,
        *,
        subresource: str | None = None,
        manager: str | None = None,
        dry_run: bool = False,
        timeout_s: float | None = None,
    ) -> JsonObject:
        """Put the whole object; Conflict when its `metadata.resourceVersion` is not the stored one."""
        key = Key.of(obj)
        query = _query(fieldManager=manager, dryRun="All" if dry_run else None)
        path = resource.object_path(key, subresource)
        return await self._object("PUT", resource, path, key, body=_complete(resource, obj), query=query, timeout_s=timeout_s)

    async def delete(
        self,
        resource: Resource,
        key: Key,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
        grace_s: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Ask for the deletion; the object may live on until its finalizers are gone. NotFound when there is none.

        With `uid`, an object of the same name but another UID is left alone (Conflict).
        """
        options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        answer = await self._object("DELETE", resource, resource.object_path(key), key, body=options, timeout_s=timeout_s, notify=False)
        # The answer is a Status when the object is gone at once, else the object with its deletionTimestamp.
        if answer.get("kind") == resource.kind:
            self._wrote(resource, answer)

    async def ensure_absent(
        self,
        resource: Resource,
        key: Key,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
        grace_s: int | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        """As `delete`, but an object that is gone already is fine. Returns whether there was one to delete."""
        try:
            await self.delete(resource, key, uid=uid, propagation=propagation, grace_s=grace_s, timeout_s=timeout_s)
        except NotFound:
            return False
        return True

    # Transport

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON_TYPE,
        timeout_s: float | None = None,
        what: str | None = None,
    ) -> bytes:
        """One request to any path (`/readyz`, `/version`, a log); returns the body of a 2xx answer.

        `body` is encoded as JSON. `what` is how errors call the request (default: method and path). `timeout_s` is the deadline
        for the whole answer, default the client's. A 429 that asks for up to 5 s is repeated within the deadline.
        """
        data = None if body is None else msgspec.json.encode(body)
        request = Request(method, path, what or f"{method} {path}", query, data, None if data is None else content_type)
        return await self._transport.send(request, timeout_s if timeout_s is not None else self.timeout_s)

    @asynccontextmanager
    async def web_socket(
        self, path: str, protocol: str, *, query: Mapping[str, str] | None = None, what: str | None = None
    ) -> AsyncIterator[ClientWebSocketResponse]:
        """A web socket at `path` that speaks `protocol`, for the length of a block. Raises as `raw`, within the block as aiohttp."""
        async with self._transport.web_socket(Request("GET", path, what or f"GET {path}", query), protocol, self.timeout_s) as stream:
            yield stream

    async def _object(
        self,
        method: str,
        resource: Resource,
        path: str,
        key: Key,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON_TYPE,
        timeout_s: float | None = None,
        notify: bool = True,
    ) -> JsonObject:
        what = f"{_VERBS[content_type] if method == 'PATCH' else _VERBS[method]} {resource} {key}"
        answer = await self.raw(method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s, what=what)
        obj: JsonObject = msgspec.json.decode(answer)
        if notify and method != "GET" and not (query and "dryRun" in query):
            self._wrote(resource, obj)
        return obj

    def _wrote(self, resource: Resource, obj: JsonObject) -> None:
        if self.on_write is not None:
            self.on_write(resource, obj)


_VERBS = {
    "GET": "get",
    "POST": "create",
    "PUT": "replace",
    "DELETE": "delete",
    MERGE_PATCH: "patch",
    JSON_PATCH: "patch",
    APPLY_PATCH: "apply",
}


def _complete(resource: Resource, obj: JsonObject) -> JsonObject:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


def _query(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}
