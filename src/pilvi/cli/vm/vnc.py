"""`pilvi vm vnc`: the screen of a machine for a VNC viewer on this host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option

if TYPE_CHECKING:
    import asyncio

    from aiohttp import ClientWebSocketResponse

    from pilvi.api import Key

__all__ = ["vnc"]


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@click.option("--port", type=click.IntRange(min=0, max=65535), default=0, help="Local port.  [default: any that is free]")
@timeout_option(20, "How long to wait at most for the screen to open.")
@cloud_option
def vnc(name: str, namespace: str | None, port: int, timeout_s: float, home: Path) -> None:
    """Serve the screen of a machine on a port of this host, for one VNC viewer; ends with it. Prints the port as JSON.

    \b
    Example:
      pilvi vm vnc team-a/web --port 5900
      vncviewer localhost:5900
    """
    run_async(_serve(home, parse_name(name, namespace), port, timeout_s))


async def _serve(home: Path, key: Key, port: int, timeout_s: float) -> None:
    import asyncio
    import json

    from pilvi.cli.vm.stream import open_stream

    viewer: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if viewer.done():
            writer.close()  # one screen, one viewer
        else:
            viewer.set_result((reader, writer))

    async with open_stream(home, key, "vnc", timeout_s) as stream:
        server = await asyncio.start_server(accept, "127.0.0.1", port)
        async with server:
            click.echo(json.dumps({"port": server.sockets[0].getsockname()[1]}))
            reader, writer = await viewer
            try:
                await _carry(stream, reader, writer)
            finally:
                writer.close()


async def _carry(stream: ClientWebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    import asyncio

    from aiohttp import WSMsgType

    async def to_viewer() -> None:
        while (message := await stream.receive()).type is WSMsgType.BINARY:
            writer.write(message.data)
            await writer.drain()

    async def from_viewer() -> None:
        while data := await reader.read(10_240):
            await stream.send_bytes(data)

    tasks = [asyncio.ensure_future(to_viewer()), asyncio.ensure_future(from_viewer())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
