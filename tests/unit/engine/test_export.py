"""The listener of the export proxy; what it gives to whom is tested beside its provider."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from pilvi.engine.serve.export import serve_export
from tests.unit.engine.serving import serving


async def test_it_speaks_tls_and_knows_upstreams_paths(tmp_path: Path) -> None:
    def tells(word: str) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=f"{word} {' '.join(request.match_info.values())}")

        return answer

    delivery = SimpleNamespace(**{name: tells(name) for name in ("raw", "gzip", "machine", "secret")})
    async with serving(tmp_path, serve_export, delivery) as session:
        assert (await session.get("/healthz")).status == 200
        for version in ("v1beta1", "v1"):
            export = f"/api/export.kubevirt.io/{version}/namespaces/team/virtualmachineexports/out"
            for path, said in (
                ("volumes/disk/disk.img", "raw team out disk"),
                ("volumes/disk/disk.img.gz", "gzip team out disk"),
                ("external/manifests/all", "machine team out"),
                ("internal/manifests/secret", "secret team out"),
            ):
                assert await (await session.get(f"{export}/{path}")).text() == said
            assert (await session.post(f"{export}/volumes/disk/disk.img")).status == 405
            assert (await session.get(f"{export}/volumes/disk/dir/")).status == 404
