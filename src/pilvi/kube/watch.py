"""One watch stream: from an HTTP answer to events, with the ways in which it ends told apart.

A watch ends normally (the server closes it after `timeoutSeconds`), with Expired (410, as HTTP status or as an ERROR event: list
again), or with another error (resume from the last resource version). A dead peer does not end it at all, so a stream that is
silent for longer than the bookmark period is cut off here. Who resumes and who lists again is the informer's business.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from pilvi.api import JsonObject
from pilvi.errors import ApiUnreachable
from pilvi.kube.lines import LineSplitter
from pilvi.kube.status import error_from_status

__all__ = ["SILENCE_S", "WatchEvent", "read_events", "watch_timeout_s"]

# The API server sends a bookmark every 60 s and keeps events for 75 s (behaviour: kube-apiserver's watch cache).
SILENCE_S = 70.0

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """What happened to which object. A BOOKMARK carries only `metadata.resourceVersion`."""

    type: EventType
    object: JsonObject

    @property
    def resource_version(self) -> str:
        """Where a later watch goes on after this event."""
        return str(self.object["metadata"]["resourceVersion"])


class ChunkReader(Protocol):
    """The part of aiohttp's StreamReader that is used here."""

    async def readany(self) -> bytes:
        """The next bytes, as soon as there are any; empty at the end."""


def watch_timeout_s() -> int:
    """How long the server shall keep a watch open: 5 to 10 minutes, at random so that watches do not all end together."""
    return random.randint(300, 600)  # noqa: S311 (spreading load, not keeping secrets)


async def read_events(stream: ChunkReader, what: str, *, silence_s: float = SILENCE_S) -> AsyncGenerator[WatchEvent, None]:
    """The events of `stream` until the server ends it.

    Raises ApiUnreachable when nothing arrives for `silence_s` seconds or a line is not JSON or too long; Expired or another
    ApiError for an ERROR event. A line that is cut off by the end of the stream is dropped: the watch is resumed before it.
    """
    splitter = LineSplitter()
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await stream.readany()
        except TimeoutError as e:
            raise ApiUnreachable(f"{what}: no event and no bookmark for {silence_s:g} s") from e
        if not chunk:
            return
        for line in splitter.feed(chunk):
            yield _parse(line, what)


def _parse(line: bytes, what: str) -> WatchEvent:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError as e:
        raise ApiUnreachable(f"{what}: a line of the watch is not JSON") from e
    if event["type"] == "ERROR":
        raise error_from_status(event["object"], what)
    return WatchEvent(event["type"], event["object"])
