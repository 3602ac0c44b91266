"""Runs the probes of all instances, and says how each of them stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from pilvi.api.resource import Key
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.instance.probes.attempt import Target, attempt
from pilvi.providers.kubevirt.instance.probes.probe import PROBES, Probe, ProbeName, Tally, read_probe
from pilvi.providers.kubevirt.instance.scope import Scope
from pilvi.providers.kubevirt.instance.tasks import MachineTasks
from pilvi.runtime import find_condition, is_true

__all__ = ["DEAD", "Prober"]

DEAD = "LivenessProbeFailed"
"""Reason of an instance's Ready condition while it is ended for that, so that the next engine goes on with it."""


class Prober:
    """`wake` is called after the standing of an instance has changed."""

    def __init__(self, tasks: MachineTasks, wake: Callable[[Key], None]) -> None:
        self._tasks = tasks
        self._wake = wake
        self._tallies: dict[tuple[str, ProbeName], Tally] = {}

    def look(self, scope: Scope, target: Target, started_at: datetime | None, is_running: Callable[[], bool]) -> str:
        """Begin to probe what runs; returns why it is not ready to its readiness probe, empty when it is or has none.

        A machine that was ready before this engine came is ready until its probe says otherwise. One that stands still is not asked.
        """
        for name in PROBES:
            good = name == "livenessProbe" or is_true(scope.vmi, "Ready")
            self._begin(scope, name, good, target, started_at, is_running)
        readiness = self._tallies.get((scope.uid, "readinessProbe"))
        if readiness is None or readiness.good:
            return ""
        return f"the readiness probe has failed: {readiness.trouble}" if readiness.trouble else "the readiness probe has not succeeded yet"

    def find_death(self, scope: Scope) -> str | None:
        """Why the instance has to end, by its liveness probe; None when it may go on."""
        liveness = self._tallies.get((scope.uid, "livenessProbe"))
        if liveness is not None and not liveness.good:
            return f"the liveness probe has failed: {liveness.trouble}"
        ready = find_condition(scope.vmi, "Ready") or {}
        return str(ready.get("message")) if ready.get("reason") == DEAD else None

    def forget(self, uid: str) -> None:
        """The instance is over; its tasks have been ended."""
        for name in PROBES:
            self._tallies.pop((uid, name), None)

    def _begin(
        self, scope: Scope, name: ProbeName, good: bool, target: Target, started_at: datetime | None, is_running: Callable[[], bool]
    ) -> None:
        probe = read_probe(scope.vmi["spec"], name)
        if probe is None:
            return
        tally = self._tallies.setdefault((scope.uid, name), Tally(probe, good))
        age_s = (utc_now() - started_at).total_seconds() if started_at is not None else 0.0
        delay_s = max(0.0, probe.initial_delay_s - age_s)
        key = scope.key
        self._tasks.keep(key, name, (probe, target), lambda: self._probe(key, probe, target, tally, delay_s, is_running))

    async def _probe(self, key: Key, probe: Probe, target: Target, tally: Tally, delay_s: float, is_running: Callable[[], bool]) -> None:
        await asyncio.sleep(delay_s)
        while True:
            if is_running() and tally.count(await attempt(probe, target)):
                self._wake(key)
            await asyncio.sleep(probe.period_s)
