"""The listener of the upload proxy; what it does with uploads is tested beside its provider."""

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

from pilvi.engine.serve.upload import serve_upload
from pilvi.lib.deadline import wait_for
from pilvi.pki import Usage, create_ca, issue


async def test_it_speaks_tls_and_knows_upstreams_paths(tmp_path: Path) -> None:
    authority = create_ca("platform")
    pair = issue(authority, "kube-apiserver", Usage.SERVER, addresses=[IPv4Address("127.0.0.1")])
    files = (tmp_path / "crt", tmp_path / "key")
    for path, content in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    seen: list[tuple[str, bool, int]] = []

    async def take(request: web.Request, *, wait: bool) -> web.Response:
        seen.append((request.path, wait, len(await request.read())))
        return web.Response()

    async def greet(_request: web.Request) -> web.Response:
        return web.Response()

    reception: Any = SimpleNamespace(take=take, greet=greet)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(serve_upload(listener, files, reception))
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            assert (await session.get(f"{url}/healthz")).status == 200
            for path in ("v1beta1/upload", "v1beta1/upload-async", "v1alpha1/upload"):
                assert (await session.post(f"{url}/{path}", data=b"abc")).status == 200
                assert (await session.head(f"{url}/{path}")).status == 200
            answer = await session.post(f"{url}/v1beta1/upload-archive", data=b"abc")
            assert (answer.status, "one disk" in await answer.text()) == (400, True)
            assert (await session.post(f"{url}/v1beta1/upload-form", data=b"abc")).status == 404
        assert seen == [("/v1beta1/upload", True, 3), ("/v1beta1/upload-async", False, 3), ("/v1alpha1/upload", True, 3)]
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await wait_for(lambda: listener.fileno() == -1, 5.0, "the listener to close")
