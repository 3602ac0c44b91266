"""Streams of a machine: its console, its screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import ClientWebSocketResponse

from pilvi.api import Key
from pilvi.cli.connection import get_platform, parse
from pilvi.cli.progress import Waiting
from pilvi.cli.vm.state import get_machine, subresource_path
from pilvi.kube import Client

__all__ = ["PROTOCOL", "open_stream"]

PROTOCOL = "plain.kubevirt.io"


@asynccontextmanager
async def open_stream(home: Path, key: Key, subresource: str, timeout_s: float) -> AsyncIterator[ClientWebSocketResponse]:
    """The stream `subresource` of the machine `key`, for the length of a block. `timeout_s` is for its beginning.

    Raises UserError, ApiError for what the machine has against it, ApiUnreachable.
    """
    async with Client.open(parse(get_platform(home)), timeout_s=timeout_s, user_agent="pilvi-cli") as client:
        path = subresource_path("virtualmachineinstances", key, subresource)
        async with AsyncExitStack() as stack:
            with Waiting() as waiting:
                waiting.show(f"the {subresource} of {key} to open")
                await get_machine(client, key)
                stream = await stack.enter_async_context(client.web_socket(path, PROTOCOL, what=f"{subresource} of {key}"))
            yield stream
