"""A cloud brought up and taken down by this command: what `up`, `down` and `run` share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.errors import TimedOut, UserError

if TYPE_CHECKING:
    from pilvi.cli.progress import Waiting
    from pilvi.host.cloud import Cloud

__all__ = ["ensure_engine", "follow_engine", "hold_home", "remove_cloud", "stop"]

_POLL_S = 0.1


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Hold the home against another `pilvi up` or `down` at the same time. Raises UserError when one is at work.

    The lock lies outside the home, so that a command which fails early leaves no folder behind.
    """
    from pilvi.host import locks
    from pilvi.lib.hashing import short_hash

    with locks.hold_lock(locks.LOCKS / f"home-{short_hash(str(home.resolve()))}.lock") as holder:
        if holder is not None:
            who = f", process {holder}," if holder else ""
            ending = f"; if it hangs, end it with `kill {holder}`" if holder else ""
            raise UserError(
                f"another pilvi command{who} works on {home} at this moment", hint=f"wait until it has ended, then try again{ending}"
            )
        yield


async def ensure_engine(cloud: Cloud, waiting: Waiting, timeout_s: float, *, restart: bool = False) -> None:
    """Start the engine unless it runs, replace one of another version (or any, with `restart`), and wait until the cloud is ready.

    One that nobody would start again when it dies is replaced too: its parent was killed.

    Raises UserError with the engine's own reason when it cannot start, TimedOut.
    """
    from pilvi import __version__
    from pilvi.engine.process import find_engine, is_attended, start_engine, stop_engine
    from pilvi.plane.progress import progress_file

    engine = find_engine(cloud)
    if engine is not None and not is_attended(engine):
        waiting.line("  the engine has lost its parent, which would start it again, and is replaced; machines and clusters run on")
        await stop_engine(cloud)
        engine = None
    if engine is not None and (restart or engine.version != __version__):
        waiting.line(f"  engine of pilvi {engine.version} is replaced; machines and clusters run on")
        await stop_engine(cloud)
        engine = None
    if engine is None:
        progress_file(cloud).unlink(missing_ok=True)
        await start_engine(cloud)
    await follow_engine(cloud, waiting, timeout_s)


async def follow_engine(cloud: Cloud, waiting: Waiting, timeout_s: float, has_ended: Callable[[], bool] = lambda: False) -> None:
    """Show what the engine says of its start until the cloud is ready. `has_ended` tells whether its process is gone.

    Raises UserError with the engine's own reason when it cannot start, TimedOut.
    """
    from pilvi.plane.progress import find_report

    deadline = asyncio.get_running_loop().time() + timeout_s
    shown: set[str] = set()
    while True:
        report = find_report(cloud)
        steps = report.steps if report else ()
        for step in steps:
            if step.ended_at is not None and step.text not in shown:
                shown.add(step.text)
                waiting.done(step.text, step.ended_at - step.started_at)
        if report is not None and report.state == "failed":
            raise UserError(f"the cloud could not start: {report.error}", hint=report.hint or f"see {cloud.home}/logs/engine.log")
        if report is not None and report.state == "ready":
            waiting.hide()
            return
        if has_ended():
            raise UserError("the engine has ended before the cloud was ready", hint="see what it said above")
        pending = [step.text for step in steps if step.ended_at is None]
        waiting.show(", ".join(pending) if pending else "the engine to start")
        if asyncio.get_running_loop().time() > deadline:
            raise TimedOut(f"the cloud to be ready: {', '.join(pending) or 'its engine'}\n{_last_lines(cloud)}".rstrip(), timeout_s)
        await asyncio.sleep(_POLL_S)


async def stop(cloud: Cloud, waiting: Waiting) -> None:
    """Stop the engine, then all units; data stays. May be called repeatedly."""
    from pilvi.engine.process import stop_engine
    from pilvi.plane.down import stop_cloud

    waiting.show("the engine to stop")
    await stop_engine(cloud)
    await stop_cloud(cloud, waiting.show)


async def remove_cloud(cloud: Cloud, waiting: Waiting) -> list[str]:
    """Stop everything and remove what is left of the cloud, proved; returns the host settings that were put back."""
    from pilvi.plane.down import purge_cloud

    await stop(cloud, waiting)
    restored = await purge_cloud(cloud, waiting.show)
    waiting.hide()
    return restored


def _last_lines(cloud: Cloud) -> str:
    """What the engine logged last, and the units that do not run."""
    from pilvi.host.units import logs, read_units

    lines = logs.tail(cloud.home / "logs" / "engine.log").splitlines()[-5:]
    for unit in read_units(cloud):
        if unit.state != "running":
            lines += [f"unit {unit.name} ended with {unit.exit}:", *(f"  {line}" for line in unit.log_tail.splitlines()[-5:])]
    return "\n".join(lines)
