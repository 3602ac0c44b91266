"""Kubernetes Events: what a person would want to know, on the object that it is about.

Recording never waits and never fails the reconcile: events go through a bounded queue to one writer, and what the API refuses is
logged and dropped. The same event again raises the count of the first (as client-go's correlator does), so a loop that fails
for an hour leaves one Event with a count. core/v1 Events are written: `kubectl describe` shows them with their count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import EVENTS
from pilvi.errors import ApiError, NotFound, Transient, format_chain
from pilvi.kube import Client
from pilvi.lib.clock import format_time

__all__ = ["EventRecorder", "EventType"]

log = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

QUEUE_LENGTH = 1000
REMEMBERED = 2000
MESSAGE_LENGTH = 1024  # the API refuses longer ones
# A repeated event is written at most this often; the count carries what happened in between.
REPEAT_S = 5.0
REQUEST_TIMEOUT_S = 5.0

_Identity = tuple[str, str, str, str]


@dataclass(slots=True)
class _Series:
    """One Event object and how often it happened."""

    event: JsonObject
    count: int = 0
    written: int = 0
    written_at: float = 0.0
    queued: bool = False


class EventRecorder:
    """Records Events as `component`. `run` writes them and has to be running; without it they are kept up to a limit."""

    def __init__(self, client: Client, component: str) -> None:
        self._client = client
        self._component = component
        self._queue: asyncio.Queue[_Series] = asyncio.Queue(QUEUE_LENGTH)
        self._series: OrderedDict[_Identity, _Series] = OrderedDict()

    def record(self, obj: JsonObject, type: EventType, reason: str, message: str) -> None:
        """Say that something happened to `obj`. `reason` is CamelCase; `message` may be long, it is cut at 1 KiB."""
        message = message if len(message) <= MESSAGE_LENGTH else message[: MESSAGE_LENGTH - 1] + "…"
        identity = (obj["metadata"].get("uid") or str(Key.of(obj)), type, reason, message)
        series = self._series.get(identity)
        if series is None:
            series = self._series[identity] = _Series(self._event(obj, type, reason, message))
            if len(self._series) > REMEMBERED:
                self._series.popitem(last=False)
        self._series.move_to_end(identity)
        series.count += 1
        series.event["lastTimestamp"] = format_time()
        self._enqueue(series)

    async def run(self) -> None:
        """Write what is recorded until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            series = await self._queue.get()
            series.queued = False
            wait_s = series.written_at + REPEAT_S - time.monotonic()
            if series.written and wait_s > 0:
                series.queued = True
                loop.call_later(wait_s, self._enqueue_later, series)
                continue
            await self._write(series)

    def _enqueue(self, series: _Series) -> None:
        if series.queued:
            return
        try:
            self._queue.put_nowait(series)
            series.queued = True
        except asyncio.QueueFull:
            log.warning("too many events at once, dropped: %s", series.event["message"])

    def _enqueue_later(self, series: _Series) -> None:
        series.queued = False
        self._enqueue(series)

    async def _write(self, series: _Series) -> None:
        event, count = series.event, series.count
        event["count"] = count
        try:
            if series.written:
                change = {"count": count, "lastTimestamp": event["lastTimestamp"]}
                try:
                    await self._client.patch(EVENTS, Key.of(event), change, timeout_s=REQUEST_TIMEOUT_S)
                except NotFound:  # Events live for an hour
                    await self._client.create(EVENTS, event, timeout_s=REQUEST_TIMEOUT_S)
            else:
                await self._client.create(EVENTS, event, timeout_s=REQUEST_TIMEOUT_S)
        except (ApiError, Transient) as e:
            # For example a namespace that is being deleted takes no new Events.
            log.debug("event dropped: %s", format_chain(e))
        series.written, series.written_at = count, time.monotonic()

    def _event(self, obj: JsonObject, type: EventType, reason: str, message: str) -> JsonObject:
        key = Key.of(obj)
        namespace = key.namespace or "default"
        about = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": key.name,
            "uid": obj["metadata"].get("uid"),
            "namespace": key.namespace or None,
            "resourceVersion": obj["metadata"].get("resourceVersion"),
        }
        now = format_time()
        return {
            "metadata": {"name": f"{key.name}.{os.urandom(8).hex()}", "namespace": namespace},
            "involvedObject": {name: value for name, value in about.items() if value},
            "type": type,
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": now,
            "lastTimestamp": now,
        }
