"""An OCI registry on loopback for tests: serves what it was given, and misbehaves as told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from aiohttp import web

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_layer(files: dict[str, bytes], *, packed: bool = True) -> bytes:
    """A layer with these files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(content), 107, 107
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(archive.getvalue(), mtime=0) if packed else archive.getvalue()


@dataclass
class FakeRegistry:
    """`break_after` bytes of a blob the connection ends, as often as `breaks` says. `token` is what clients must bring, if any."""

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    break_after: int | None = None
    breaks: int = 0
    ranges: bool = True
    lies: bool = False
    token: str = ""
    credentials: tuple[str, str] | None = None
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    blobs_at: str = ""
    log: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, tag: str, *layers: bytes, architecture: str | None = None) -> str:
        """Push an image; the reference that it has then."""
        for layer in layers:
            self.blobs[digest_of(layer)] = layer
        entries = [{"mediaType": LAYER, "digest": digest_of(layer), "size": len(layer)} for layer in layers]
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
        self._put(path, tag, MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": entries})
        if architecture is not None:
            _, body = self.manifests[path, tag]
            platform = {"os": "linux", "architecture": architecture}
            entry = {"mediaType": MANIFEST, "digest": digest_of(body), "size": len(body), "platform": platform}
            self._put(path, tag, INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
        return f"{self.host}/{path}:{tag}"

    def digest(self, path: str, tag: str) -> str:
        return digest_of(self.manifests[path, tag][1])

    def _put(self, path: str, tag: str, media_type: str, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.manifests[path, tag] = self.manifests[path, digest_of(body)] = (media_type, body)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.log.append(f"{request.method} {request.path} {request.headers.get('Range', '')}".strip())
        self.seen.append(dict(request.headers))
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return web.json_response({"errors": [{"message": "not now"}]}, status=status, headers=headers)
        if request.path == "/token":
            return self._give_token(request)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            challenge = f'Bearer realm="http://{self.host}/token",service="registry",scope="repository:x:pull"'
            return web.json_response({"errors": [{"message": "who are you"}]}, status=401, headers={"WWW-Authenticate": challenge})
        path, _, wanted = request.path.removeprefix("/v2/").rpartition("/")
        path, _, kind = path.rpartition("/")
        if kind == "manifests":
            found = self.manifests.get((path, wanted))
            if found is None:
                return web.json_response({"errors": [{"message": "manifest unknown"}]}, status=404)
            return web.Response(body=found[1], content_type=found[0])
        if self.blobs_at:
            raise web.HTTPTemporaryRedirect(f"{self.blobs_at}{request.path}")
        return await self._send_blob(request, wanted)

    def _give_token(self, request: web.Request) -> web.Response:
        if self.credentials is not None:
            wanted = base64.b64encode(":".join(self.credentials).encode()).decode()
            if request.headers.get("Authorization") != f"Basic {wanted}":
                return web.json_response({}, status=401)
        return web.json_response({"token": self.token})

    async def _send_blob(self, request: web.Request, digest: str) -> web.StreamResponse:
        content = self.blobs.get(digest)
        if content is None:
            return web.json_response({"errors": [{"message": "blob unknown"}]}, status=404)
        if self.lies:
            content = bytes(len(content))
        start = 0
        wanted = request.headers.get("Range")
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        rest = content[start:]
        response = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(rest))})
        await response.prepare(request)
        if self.breaks and self.break_after is not None:
            self.breaks -= 1
            await response.write(rest[: self.break_after])
            assert request.transport is not None
            request.transport.close()
            return response
        with contextlib.suppress(ConnectionError):
            await response.write(rest)
        return response


@contextmanager
def registry_in_thread() -> Iterator[FakeRegistry]:
    """`serve_registry` for tests that wait for programs: it answers from a thread of its own."""
    started: Future[FakeRegistry] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serve_registry() as registry:
            started.set_result(registry)
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield started.result(timeout=10)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(timeout=10)
        loop.close()


@asynccontextmanager
async def serve_registry(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
    """A registry at a free port of 127.0.0.1."""
    registry = FakeRegistry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    registry.host = f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield registry
    finally:
        await runner.cleanup()
