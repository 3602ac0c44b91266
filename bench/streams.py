"""Console and screen of a machine of the cloud, by the web sockets that virtctl uses."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
from tests.virtctl import Virtctl

from bench.floor.rates import Rate, console_rate, screen_rate
from pilvi.kube import load_kubeconfig


def console_bytes(kubeconfig: Path, name: str) -> float:
    """Bytes in a second that the guest's shell prints."""
    return asyncio.run(_measure(kubeconfig, lambda virtctl: virtctl.console(name), console_rate))


def screen_bytes(kubeconfig: Path, name: str) -> float:
    """Bytes in a second of whole screens."""
    return asyncio.run(_measure(kubeconfig, lambda virtctl: virtctl.vnc(name), screen_rate))


async def _measure(
    kubeconfig: Path, connect: Callable[[Virtctl], AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]], rate: Rate
) -> float:
    async with Virtctl.connect(load_kubeconfig(kubeconfig)) as virtctl, connect(virtctl) as stream:

        async def receive() -> bytes:
            message = await stream.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, message
            return bytes(message.data)

        return await rate(receive, stream.send_bytes)
