"""A QMP server whose manners a test chooses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.status import Event
from tests.qmp import following

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}

Answer = Callable[[str, dict[str, Any]], Any]


class FakeQemu:
    """Answers `commands[name]` (a value, or a function of the arguments), refuses what is not in it, and says nothing to `mute`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commands: dict[str, Any] = {"query-status": {"status": "running"}}
        self.mute: set[str] = set()
        self.greets = True
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    def event(self, name: str, **data: Any) -> None:
        for writer in self._writers:
            self._write(writer, {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})

    def say(self, text: bytes) -> None:
        for writer in self._writers:
            writer.write(text)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            if self.greets:
                self._write(writer, GREETING)
            buffer = ""
            while data := await reader.read(65536):
                buffer = (buffer + data.decode()).lstrip()  # a descriptor comes with a blank
                while (message := _first(buffer)) is not None:
                    value, end = message
                    buffer = buffer[end:].lstrip()
                    self._answer(writer, value)
        except (ConnectionError, ValueError):
            pass
        finally:
            self._writers.remove(writer)
            writer.transport.abort()

    def _answer(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        command, arguments = message["execute"], message.get("arguments", {})
        if command == "qmp_capabilities":
            self._write(writer, {"return": {}, "id": message.get("id")})
            return
        self.asked.append((command, arguments))
        if command in self.mute:
            return
        if command not in self.commands:
            self._write(writer, {"error": {"class": "CommandNotFound", "desc": f"no {command}"}, "id": message["id"]})
            return
        answer = self.commands[command]
        self._write(writer, {"return": answer(arguments) if callable(answer) else answer, "id": message["id"]})

    def _write(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\r\n")


def _first(text: str) -> tuple[dict[str, Any], int] | None:
    """The first whole message; nothing but itself says where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None


@asynccontextmanager
async def listening(qemu: FakeQemu) -> AsyncIterator[None]:
    qemu.path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(qemu.serve, qemu.path)
    try:
        yield
    finally:
        server.close()
        qemu.hang_up()
        await asyncio.sleep(0)


@asynccontextmanager
async def watching(qemu: FakeQemu) -> AsyncIterator[tuple[Monitor, list[Event]]]:
    """A monitor of it that runs, and the events that it has heard; it leaves no task behind."""
    before = asyncio.all_tasks()
    try:
        async with following("vm", qemu.path) as found:
            yield found
    finally:
        assert {left for left in asyncio.all_tasks() - before if "serve" not in repr(left)} == set()
