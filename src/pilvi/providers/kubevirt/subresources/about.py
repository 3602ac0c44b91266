"""What the group says of itself: version and health."""

from __future__ import annotations

import platform as host_platform
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pilvi import __version__

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["AboutHandlers"]

KUBEVIRT = "v1.9.0"
"""The release whose API is served. virtctl compares it with its own and warns when they differ."""


class AboutHandlers:
    """The handlers, by the names of the paths."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def version(self, _request: web.Request) -> web.Response:
        """GET version: that of KubeVirt's API; who serves it stands behind the +."""
        return web.json_response(
            {
                "gitVersion": f"{KUBEVIRT}+pilvi.{__version__}",
                "gitCommit": "",
                "gitTreeState": "",
                "buildDate": "",
                "goVersion": "",
                "compiler": host_platform.python_implementation(),
                "platform": f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(host_platform.machine(), host_platform.machine()) }",
            }
        )

    async def healthz(self, _request: web.Request) -> web.Response:
        """GET healthz: whether the API behind all this answers. Raises ApiUnreachable when it does not."""
        version = msgspec.json.decode(await self._client.raw("GET", "/version"))
        return web.json_response({"apiserver": {"connectivity": "ok", "version": version["gitVersion"]}})
