"""A web server with files, and with the faults that real ones have."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestServer

Fault = Callable[[web.Request], web.StreamResponse | None]


@dataclass
class HttpServer:
    """Attributes are knobs that a test may turn at any time. `files` are by path; HEAD is refused, as many servers do."""

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)  # default: a strong one of the content; "" for none
    ranges: bool = True
    chunked: bool = False  # no Content-Length
    break_after: int = 0  # bytes of a body after which the connection is cut, while `breaks` is not 0
    breaks: int = -1
    claim_more: int = 0  # added to Content-Length
    pause_s: float = 0.0  # before every 64 KiB
    redirects: dict[str, str] = field(default_factory=dict)
    user: tuple[str, str] | None = None
    needed_headers: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    sent: int = 0  # bytes of bodies
    server: TestServer | None = None
    scheme: str = "http"

    def url(self, path: str) -> str:
        assert self.server is not None
        return f"{self.scheme}://{self.server.host}:{self.server.port}{path}"

    def answer(self, status: int, times: int = 1, **headers: str) -> None:
        """Answer the next `times` requests with this status."""
        left = [times]

        def fault(request: web.Request) -> web.StreamResponse | None:
            left[0] -= 1
            if left[0] <= 0:
                self.faults.remove(fault)
            return web.Response(status=status, headers=headers)

        self.faults.append(fault)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers)))
        for fault in [*self.faults]:
            if (answer := fault(request)) is not None:
                return answer
        if request.method != "GET":
            return web.Response(status=405)
        if request.path in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[request.path]})
        if self.user is not None and request.headers.get("Authorization", "") != encode_basic_auth(*self.user):
            return web.Response(status=401)
        if any(request.headers.get(name) != value for name, value in self.needed_headers.items()):
            return web.Response(status=403)
        content = self.files.get(request.path)
        if content is None:
            return web.Response(status=404)
        return await self._send(request, content)

    async def _send(self, request: web.Request, content: bytes) -> web.StreamResponse:
        etag = self.etags.get(request.path, f'"{hash(content)}"')
        start, status, headers = 0, 200, {}
        if etag:
            headers["ETag"] = etag
        asked = request.headers.get("Range", "")
        if self.ranges and asked.startswith("bytes=") and request.headers.get("If-Range", etag) == etag:
            start, status = int(asked[6:].split("-")[0]), 206
            if start >= len(content):
                return web.Response(status=416)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=status, headers=headers)
        body = content[start:]
        if self.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(body) + self.claim_more
        await response.prepare(request)
        cut = self.break_after if self.break_after and self.breaks else 0
        for place in range(0, len(body), 65536):
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            piece = body[place : place + 65536]
            if cut and place + len(piece) >= cut:
                piece = piece[: cut - place]
                await response.write(piece)
                self.sent += len(piece)
                self.breaks -= 1
                await self._cut(request)
                return response
            await response.write(piece)
            self.sent += len(piece)
        if self.claim_more:
            await self._cut(request)
        return response

    async def _cut(self, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.close()


@contextmanager
def http_server_in_thread(**knobs: object) -> Iterator[HttpServer]:
    """`http_server` for tests that wait for programs: it answers from a thread of its own."""
    started: Future[HttpServer] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with http_server(**knobs) as served:  # type: ignore[arg-type]
            started.set_result(served)
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
async def http_server(tls: tuple[Path, Path] | None = None, **knobs: object) -> AsyncIterator[HttpServer]:
    """A server on loopback. `tls` are the files of its certificate and key."""
    served = HttpServer(**knobs)  # type: ignore[arg-type]
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", served.handle)
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        served.scheme = "https"
    served.server = TestServer(app, scheme=served.scheme)
    await served.server.start_server(ssl=context, shutdown_timeout=0.1)
    try:
        yield served
    finally:
        await served.server.close()
