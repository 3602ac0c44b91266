"""What the proxies for uploads and exports have in common: HTTPS on the platform's address, for everybody.

They show the API server's own certificate: the same address, and an authority that every client of the API has already.
"""

import asyncio
import socket
import ssl
from pathlib import Path

from aiohttp import web

from pilvi.engine.serve.certificate import keep_certificate, server_context

__all__ = ["serve_proxy"]

SHUTDOWN_TIMEOUT_S = 2.0


async def serve_proxy(listener: socket.socket, certificate: tuple[Path, Path], application: web.Application) -> None:
    """Serve until cancelled. `certificate` are the files of certificate and key. Raises OSError."""
    context = server_context(certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        await keep_certificate(context, certificate)
    finally:
        await asyncio.shield(runner.cleanup())
