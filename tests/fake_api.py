"""A small API server for unit tests, with the faults that real ones have.

It stores objects with resource versions, generations, finalizers and UIDs, and streams watches. Server-side apply is a plain
deep merge here: ownership of fields is tested against a real kube-apiserver in tests/plane.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from pilvi.api import JsonObject
from pilvi.kube import Kubeconfig

Fault = Callable[[web.Request], web.StreamResponse | None]


class FakeApi:
    """Start with `await start()`, stop with `await stop()`. Attributes are knobs that a test may turn at any time."""

    def __init__(self) -> None:
        self.objects: dict[str, JsonObject] = {}  # by object path
        self.requests: list[tuple[str, str]] = []  # (method, path with query), as they came
        self.request_headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.chunk_bytes = 0  # watch lines are sent in pieces of this size
        self.page_size = 0  # lists are cut into pages of at most this size
        self.silent_watches = False  # accept watches, say nothing
        self.hold_events = False  # keep events back until `release`
        self.oldest = 0  # versions below are gone: 410
        self.expired_as_event = True
        self._version = itertools.count(101)
        self._uid = itertools.count(1)
        self._last = 100
        self._history: list[tuple[int, str, str, JsonObject]] = []
        self._changed = asyncio.Event()
        self._dropped = asyncio.Event()
        self._extra: list[bytes] = []
        self._server: TestServer | None = None
        self.watching = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._server = TestServer(app)
        await self._server.start_server(shutdown_timeout=0.1)

    async def stop(self) -> None:
        assert self._server is not None
        self.drop_watches()
        await self._server.close()

    @property
    def kubeconfig(self) -> Kubeconfig:
        assert self._server is not None
        return Kubeconfig(server=str(self._server.make_url("")).rstrip("/"))

    # What tests do to it

    def fail(
        self, code: int, reason: str = "", *, method: str = "", times: int = 1, retry_after: int | None = None, **details: Any
    ) -> None:
        """Answer the next `times` requests (of that method) with an error."""
        left = itertools.count(1)

        def fault(request: web.Request) -> web.StreamResponse | None:
            if method and request.method != method:
                return None
            if next(left) >= times:
                self.faults.remove(fault)
            return status_response(code, reason, retry_after=retry_after, **details)

        self.faults.append(fault)

    def drop_watches(self) -> None:
        """Break the connection of every watch that is open now."""
        self._dropped.set()
        self._dropped = asyncio.Event()

    def expire(self) -> None:
        """Forget all history: watches from now on get 410 unless they start at the newest version."""
        self.oldest = self._last

    def send_raw(self, line: bytes) -> None:
        """Send a line on every open watch, as it is."""
        self._extra.append(line)
        self._wake()

    def send_bookmark(self) -> None:
        """Tell every open watch the newest version."""
        self.send_raw(json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._last)}}}).encode())

    def send_error(self, code: int, reason: str) -> None:
        """Send an ERROR event on every open watch."""
        status = {"kind": "Status", "code": code, "reason": reason, "message": f"made to fail with {code}"}
        self.send_raw(json.dumps({"type": "ERROR", "object": status}).encode())

    def release(self) -> None:
        """End `hold_events`."""
        self.hold_events = False
        self._wake()

    def put(self, path: str, obj: JsonObject) -> JsonObject:
        """Store an object as if somebody else had written it."""
        old = self.objects.get(path)
        return self._write(path, old, obj)

    def remove(self, path: str, *, quietly: bool = False) -> None:
        """Delete an object at once; quietly: no watch is told."""
        obj = self.objects.pop(path)
        self._last = next(self._version)
        gone = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._last)}}
        if not quietly:
            self._history.append((self._last, path, "DELETED", gone))
            self._wake()

    # What it does

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        self.request_headers.append(dict(request.headers))
        for fault in [*self.faults]:
            if (answer := fault(request)) is not None:
                return answer
        path = request.path
        body = json.loads(await request.read() or b"null")
        if request.method == "GET":
            if "watch" in request.query:
                return await self._watch(request)
            return self._get(path) if _names_object(path) else self._list(request)
        if request.method == "POST":
            if "name" not in body["metadata"]:
                body["metadata"]["name"] = f"{body['metadata']['generateName']}{next(self._uid)}"
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return status_response(409, "AlreadyExists")
            return web.json_response(self._write(path, None, body), status=201)
        base, _, subresource = path.rpartition("/") if path.endswith("/status") else (path, "", "")
        old = self.objects.get(base)
        if request.method == "PATCH" and request.content_type == "application/apply-patch+yaml" and old is None and not subresource:
            return web.json_response(self._write(base, None, body), status=201)
        if old is None:
            return status_response(404, "NotFound")
        if request.method == "DELETE":
            return self._delete(base, old, body or {})
        if (version := body["metadata"].get("resourceVersion") if "metadata" in body else None) and version != old["metadata"][
            "resourceVersion"
        ]:
            return status_response(409, "Conflict")
        new = body if request.method == "PUT" else _merge(old, body)
        if subresource:
            new = {**old, "status": new.get("status")}
        return web.json_response(self._write(base, old, new))

    def _get(self, path: str) -> web.StreamResponse:
        obj = self.objects.get(path)
        return web.json_response(obj) if obj is not None else status_response(404, "NotFound")

    def _list(self, request: web.Request) -> web.StreamResponse:
        items = [obj for path, obj in self.objects.items() if _is_in(path, request.path)]
        start = int(request.query.get("continue", "0"))
        end = start + (self.page_size or len(items) or 1)
        metadata = {"resourceVersion": str(self._last)}
        if end < len(items):
            metadata["continue"] = str(end)
        return web.json_response({"kind": "List", "metadata": metadata, "items": items[start:end]})

    def _delete(self, path: str, old: JsonObject, options: JsonObject) -> web.StreamResponse:
        uid = (options.get("preconditions") or {}).get("uid")
        if uid is not None and uid != old["metadata"]["uid"]:
            return status_response(409, "Conflict")
        if old["metadata"].get("finalizers"):
            marked = {**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
            return web.json_response(self._write(path, old, marked))
        self.remove(path)
        return web.json_response({"kind": "Status", "status": "Success"})

    def _write(self, path: str, old: JsonObject | None, new: JsonObject) -> JsonObject:
        metadata = {**new["metadata"]}
        before = old["metadata"] if old is not None else {"uid": f"uid-{next(self._uid)}", "generation": 0}
        changed_spec = old is None or old.get("spec") != new.get("spec")
        self._last = next(self._version)
        metadata |= {"uid": before["uid"], "generation": before["generation"] + changed_spec, "resourceVersion": str(self._last)}
        if before.get("deletionTimestamp"):
            metadata["deletionTimestamp"] = before["deletionTimestamp"]
        metadata["managedFields"] = [{"manager": "somebody"}]
        obj = {**new, "metadata": metadata}
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self.objects[path] = obj
            self.remove(path)
            return obj
        self.objects[path] = obj
        self._history.append((self._last, path, "ADDED" if old is None else "MODIFIED", obj))
        self._wake()
        return obj

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        seen = int(request.query["resourceVersion"])
        if seen < self.oldest and not self.expired_as_event:
            return status_response(410, "Expired")
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        if seen < self.oldest:
            await self._send(
                response, json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}).encode()
            )
            return response
        sent_extra = len(self._extra)
        dropped = self._dropped
        self.watching += 1
        try:
            while not dropped.is_set():
                changed = self._changed
                if not self.silent_watches:
                    if not self.hold_events:
                        for version, path, kind, obj in [entry for entry in self._history if entry[0] > seen]:
                            seen = version
                            if _is_in(path, request.path):
                                await self._send(response, json.dumps({"type": kind, "object": obj}).encode())
                    while sent_extra < len(self._extra):
                        sent_extra += 1
                        await self._send(response, self._extra[sent_extra - 1])
                        if b'"ERROR"' in self._extra[sent_extra - 1]:
                            return response
                waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(dropped.wait())]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.watching -= 1
        return response

    async def _send(self, response: web.StreamResponse, line: bytes) -> None:
        data = line + b"\n"
        step = self.chunk_bytes or len(data)
        for start in range(0, len(data), step):
            await response.write(data[start : start + step])
            if self.chunk_bytes:
                await asyncio.sleep(0)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def status_response(code: int, reason: str = "", *, retry_after: int | None = None, **details: Any) -> web.Response:
    """An answer with a Status body."""
    status = {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": f"made to fail with {code}",
        "details": details,
    }
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    return web.json_response(status, status=code, headers=headers)


def _names_object(path: str) -> bool:
    parts = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    return len(parts) == (4 if parts[0] == "namespaces" and len(parts) > 2 else 2)


def _is_in(object_path: str, collection: str) -> bool:
    """Whether the object is in the collection, in one namespace or all."""
    parent = object_path.rpartition("/")[0]
    if parent == collection:
        return True
    head, _, tail = parent.partition("/namespaces/")
    return bool(tail) and f"{head}/{tail.partition('/')[2]}" == collection


def _merge(old: Any, change: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(change, dict):
        return change
    merged = dict(old)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(old.get(name), value) if name in old else value
    return merged
