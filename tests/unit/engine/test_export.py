"""The listener of the export proxy; what it gives to whom is tested beside its provider."""

from __future__ import annotations

import asyncio
import socket
import ssl
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pilvi.engine.serve.export import serve_export
from pilvi.lib.deadline import wait_for
from pilvi.pki import Usage, create_ca, issue


async def test_it_speaks_tls_and_knows_upstreams_paths(tmp_path: Path) -> None:
    authority = create_ca("platform")
    pair = issue(authority, "kube-apiserver", Usage.SERVER, addresses=[IPv4Address("127.0.0.1")])
    files = (tmp_path / "crt", tmp_path / "key")
    for path, content in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)

    def tells(word: str) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=f"{word} {' '.join(request.match_info.values())}")

        return answer

    delivery: Any = SimpleNamespace(**{name: tells(name) for name in ("raw", "gzip", "machine", "secret")})
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(serve_export(listener, files, delivery))
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            assert (await session.get(f"{url}/healthz")).status == 200
            for version in ("v1beta1", "v1"):
                export = f"{url}/api/export.kubevirt.io/{version}/namespaces/team/virtualmachineexports/out"
                for path, said in (
                    ("volumes/disk/disk.img", "raw team out disk"),
                    ("volumes/disk/disk.img.gz", "gzip team out disk"),
                    ("external/manifests/all", "machine team out"),
                    ("internal/manifests/secret", "secret team out"),
                ):
                    assert await (await session.get(f"{export}/{path}")).text() == said
                assert (await session.post(f"{export}/volumes/disk/disk.img")).status == 405
                assert (await session.get(f"{export}/volumes/disk/dir/")).status == 404
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await wait_for(lambda: listener.fileno() == -1, 5.0, "the listener to close")
