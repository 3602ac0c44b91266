"""The listener of the upload proxy; what it does with uploads is tested beside its provider."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from aiohttp import web

from pilvi.engine.serve.upload import serve_upload
from tests.unit.engine.serving import serving


async def test_it_speaks_tls_and_knows_upstreams_paths(tmp_path: Path) -> None:
    seen: list[tuple[str, bool, int]] = []

    async def take(request: web.Request, *, wait: bool) -> web.Response:
        seen.append((request.path, wait, len(await request.read())))
        return web.Response()

    async def greet(_request: web.Request) -> web.Response:
        return web.Response()

    async with serving(tmp_path, serve_upload, SimpleNamespace(take=take, greet=greet)) as session:
        assert (await session.get("/healthz")).status == 200
        for path in ("v1beta1/upload", "v1beta1/upload-async", "v1alpha1/upload"):
            assert (await session.post(f"/{path}", data=b"abc")).status == 200
            assert (await session.head(f"/{path}")).status == 200
        answer = await session.post("/v1beta1/upload-archive", data=b"abc")
        assert (answer.status, "one disk" in await answer.text()) == (400, True)
        assert (await session.post("/v1beta1/upload-form", data=b"abc")).status == 404
    assert seen == [("/v1beta1/upload", True, 3), ("/v1beta1/upload-async", False, 3), ("/v1alpha1/upload", True, 3)]
