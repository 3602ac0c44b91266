"""A listener of the engine's with TLS, and a client that trusts it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilvi.lib.deadline import wait_for
from pilvi.pki import Usage, create_ca, issue

Serve = Callable[[socket.socket, tuple[Path, Path], Any], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(folder: Path, serve: Serve, subject: object) -> AsyncIterator[aiohttp.ClientSession]:
    """`serve(listener, files, subject)` with a certificate in `folder`; the session begins at its address. It closes the listener."""
    authority = create_ca("platform")
    pair = issue(authority, "kube-apiserver", Usage.SERVER, addresses=[IPv4Address("127.0.0.1")])
    files = (folder / "crt", folder / "key")
    for path, content in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    base = f"https://127.0.0.1:{listener.getsockname()[1]}"
    task = asyncio.create_task(serve(listener, files, subject))
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    try:
        async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=context)) as session:
            yield session
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await wait_for(lambda: listener.fileno() == -1, 30, "the listener to close")
