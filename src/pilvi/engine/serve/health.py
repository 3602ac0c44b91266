"""/healthz and /metrics of the engine, on the platform's address."""

import asyncio

from aiohttp import web

from pilvi.engine.serve.listener import listen
from pilvi.host.cloud import Cloud
from pilvi.runtime import Informers, Metrics

PORT = 9100


async def serve_health(cloud: Cloud, metrics: Metrics, informers: Informers) -> None:
    """Answer until cancelled. /healthz says 200 when every informer has listed once, else 503 with those that have not."""

    async def healthz(_request: web.Request) -> web.Response:
        missing = sorted(str(informer.resource) for informer in informers if not informer.synced.is_set())
        if missing:
            return web.Response(status=503, text=f"not listed yet: {', '.join(missing)}\n")
        return web.Response(text="ok\n")

    async def numbers(_request: web.Request) -> web.Response:
        return web.Response(text=metrics.render(), content_type="text/plain")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", numbers)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(cloud, cloud.platform_address.ip, PORT)).start()
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()
