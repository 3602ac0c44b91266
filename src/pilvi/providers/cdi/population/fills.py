"""The fillings that are under way: tasks that outlive any one pass of a controller, which only looks at them.

One that fails starts again after a growing delay, and goes on where it was; one that got further meanwhile begins with short delays
again. Only `Unusable` ends it for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from pilvi.api import Key
from pilvi.errors import Bug, NoSpace, PilviError, Transient, Unusable, format_chain
from pilvi.lib.backoff import Backoff
from pilvi.transfer import Meter

__all__ = ["Fill", "Fills", "Work"]

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[Meter], Awaitable[dict[str, str]]]
"""Fills a claim; what it returns are annotations that tell how."""

FIRST_DELAY_S = 2.0
LONGEST_DELAY_S = 300.0
AT_ONCE = 4


@dataclass
class Fill:
    """One filling. `done` is set at its end, to what the work returned; `refused` when it can never succeed.

    An `uploaded` one that is refused can be sent again. `trouble` says why it waits to be tried again; empty while it runs.
    """

    key: Key
    meter: Meter = field(default_factory=Meter)
    restarts: int = 0
    trouble: str = ""
    full: bool = False
    uploaded: bool = False
    refused: str = ""
    done: dict[str, str] | None = None
    task: asyncio.Task[None] | None = None


class Fills:
    """All fillings, by the UID of their claim. `run` has to be running. `changed` is called with the claim's key when one changes."""

    def __init__(self) -> None:
        self.changed: Callable[[Key], None] = lambda _key: None
        self._fills: dict[str, Fill] = {}
        self._waiting: list[tuple[Fill, Work]] = []
        self._group: asyncio.TaskGroup | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)

    def find(self, uid: str) -> Fill | None:
        """The filling of that claim, or None."""
        return self._fills.get(uid)

    def start(self, uid: str, key: Key, work: Work, restarts: int = 0) -> Fill:
        """Begin to fill a claim; `restarts` is how often it was tried again before, by an engine that is gone."""
        fill = self._fills[uid] = Fill(key, restarts=restarts)
        if self._group is None:
            self._waiting.append((fill, work))
        else:
            self._begin(self._group, fill, work)
        return fill

    async def stop(self, uid: str) -> None:
        """End the filling; on return nothing of it writes any more. None is fine."""
        fill = self._fills.pop(uid, None)
        self._waiting = [entry for entry in self._waiting if entry[0] is not fill]
        if fill is not None and fill.task is not None:
            fill.task.cancel()
            await asyncio.wait([fill.task])

    def uids_of(self, key: Key) -> list[str]:
        """UIDs of claims of that name that are being filled."""
        return [uid for uid, fill in self._fills.items() if fill.key == key]

    async def run(self) -> None:
        """Run the fillings until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for fill, work in self._waiting:
                    self._begin(group, fill, work)
                self._waiting.clear()
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    def _begin(self, group: asyncio.TaskGroup, fill: Fill, work: Work) -> None:
        fill.task = group.create_task(self._run_one(fill, work), name=f"filling {fill.key}")

    async def _run_one(self, fill: Fill, work: Work) -> None:
        backoff = Backoff(FIRST_DELAY_S, LONGEST_DELAY_S)
        reached = 0
        while True:
            try:
                async with self._turns:
                    fill.trouble, fill.full = "", False
                    fill.done = await work(fill.meter)
                return
            except Bug:
                raise
            except Unusable as e:
                fill.refused = format_chain(e)
                return
            except (PilviError, OSError) as e:
                if fill.meter.done > reached:
                    backoff.reset()
                reached = max(reached, fill.meter.done)
                delay_s = max(backoff.next_s(), e.retry_after_s if isinstance(e, Transient) else 0.0)
                fill.trouble, fill.full = format_chain(e), isinstance(e, NoSpace)
                fill.restarts += 1
                log.info("filling of %s is tried again in %.0f s: %s", fill.key, delay_s, fill.trouble)
            finally:
                self.changed(fill.key)
            await asyncio.sleep(delay_s)
