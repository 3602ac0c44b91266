"""The export proxy, with the paths of upstream's."""

import socket
from pathlib import Path

from aiohttp import web

from pilvi.api.export import EXPORT_VERSIONS, VirtualMachineExport
from pilvi.engine.serve.proxy import serve_proxy
from pilvi.providers.kubevirt import Delivery

__all__ = ["make_application", "serve_export"]


async def serve_export(listener: socket.socket, certificate: tuple[Path, Path], delivery: Delivery) -> None:
    """Give out what is exported until cancelled. `certificate` are the files of certificate and key. Raises OSError."""
    await serve_proxy(listener, certificate, make_application(delivery))


def make_application(delivery: Delivery) -> web.Application:
    """All paths with what answers them; those that ask with HEAD get the head."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="OK")

    exports = VirtualMachineExport.RESOURCE
    app = web.Application()
    app.router.add_get("/healthz", healthz)
    for version in EXPORT_VERSIONS:
        export = f"/api/{exports.group}/{version}/namespaces/{{namespace}}/{exports.plural}/{{name}}"
        app.router.add_get(f"{export}/volumes/{{volume}}/disk.img", delivery.raw)
        app.router.add_get(f"{export}/volumes/{{volume}}/disk.img.gz", delivery.gzip)
        for where in ("external", "internal"):
            app.router.add_get(f"{export}/{where}/manifests/all", delivery.machine)
            app.router.add_get(f"{export}/{where}/manifests/secret", delivery.secret)
    return app
