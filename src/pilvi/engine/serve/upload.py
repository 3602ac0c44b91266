"""The upload proxy, with the paths of upstream's."""

import socket
from pathlib import Path

from aiohttp import web

from pilvi.engine.serve.proxy import serve_proxy
from pilvi.providers.cdi.upload import Reception

__all__ = ["make_application", "serve_upload"]

VERSIONS = ("v1beta1", "v1alpha1")


async def serve_upload(listener: socket.socket, certificate: tuple[Path, Path], reception: Reception) -> None:
    """Take uploads until cancelled. `certificate` are the files of certificate and key. Raises OSError."""
    await serve_proxy(listener, certificate, make_application(reception))


def make_application(reception: Reception) -> web.Application:
    """All paths with what answers them."""

    async def upload(request: web.Request) -> web.Response:
        return await reception.take(request, wait=True)

    async def upload_async(request: web.Request) -> web.Response:
        return await reception.take(request, wait=False)

    async def archive(_request: web.Request) -> web.Response:
        raise web.HTTPBadRequest(
            text="archives are not taken: a volume holds one disk; upload an image of a file system with these files\n"
        )

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    for version in VERSIONS:
        for path, handler in (("upload", upload), ("upload-async", upload_async), ("upload-archive", archive)):
            for method in ("POST", "PUT"):
                app.router.add_route(method, f"/{version}/{path}", handler)
            app.router.add_route("HEAD", f"/{version}/{path}", reception.greet)
    return app
