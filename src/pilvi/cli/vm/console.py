"""`pilvi vm console`: a terminal on the serial console of a machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

    from pilvi.api import Key

__all__ = ["attach", "console", "raw_terminal"]

ESCAPE = b"\x1d"  # Ctrl-]
PIECE_BYTES = 1024


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@timeout_option(20, "How long to wait at most for the console to open.")
@cloud_option
def console(name: str, namespace: str | None, timeout_s: float, home: Path) -> None:
    """Open the serial console of a machine. Ctrl-] leaves it. Whoever had it open before is disconnected.

    \b
    Example:
      pilvi vm console team-a/web
    """
    key = parse_name(name, namespace)
    ending = run_async(_console(home, key, timeout_s))
    click.echo(f"\nThe console of {key} is closed{f': {ending}' if ending else ''}.", err=True)


async def _console(home: Path, key: Key, timeout_s: float) -> str:
    from pilvi.cli.vm.stream import open_stream

    async with open_stream(home, key, "console", timeout_s) as stream:
        click.echo(f"Connected to the console of {key}. Ctrl-] leaves it.", err=True)
        with raw_terminal(sys.stdin.fileno()):
            return await attach(stream, sys.stdin.fileno(), sys.stdout.fileno())


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Have the terminal pass on every key as it is, for the length of a block; anything else than a terminal is left alone."""
    import os
    import termios
    import tty

    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def attach(stream: ClientWebSocketResponse, source: int, sink: int) -> str:
    """Carry bytes between the stream and two descriptors until one ends, or the user leaves. Returns why, as the other side says it."""
    import asyncio

    tasks = [asyncio.ensure_future(_show(stream, sink)), asyncio.ensure_future(_type(stream, source))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _show(stream: ClientWebSocketResponse, sink: int) -> str:
    import asyncio
    import os

    from aiohttp import WSMsgType

    while (message := await stream.receive()).type is WSMsgType.BINARY:
        left = memoryview(message.data)
        while left:
            left = left[await asyncio.to_thread(os.write, sink, left) :]
    return str(message.extra or "") if message.type is WSMsgType.CLOSE else "the connection broke"


async def _type(stream: ClientWebSocketResponse, source: int) -> str:
    while typed := await _read(source):
        before, escape, _ = typed.partition(ESCAPE)
        if before:
            await stream.send_bytes(before)
        if escape:
            return ""
    return ""


async def _read(source: int) -> bytes:
    """What can be read next; empty at the end."""
    import asyncio
    import os

    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(source, readable.set)
    except PermissionError:  # a file, which can always be read
        return os.read(source, PIECE_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(source)
    try:
        return os.read(source, PIECE_BYTES)
    except OSError:  # the terminal has been hung up
        return b""
