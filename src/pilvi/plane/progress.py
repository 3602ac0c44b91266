"""What a starting engine is doing, told through one small file to whoever waits for it.

The engine writes it, `pilvi up` reads it: they are two processes, and the file is there even when the API is not yet.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from pilvi.errors import PilviError, UserError, format_chain
from pilvi.host.cloud import Cloud
from pilvi.lib.files import write_atomic


class Step(msgspec.Struct, frozen=True):
    """One thing that has to happen; times are seconds since the epoch, `ended_at` None while it goes on."""

    text: str
    started_at: float
    ended_at: float | None = None


class Report(msgspec.Struct, frozen=True):
    """All steps so far, and how it ended. `error` and `hint` are for people."""

    engine_pid: int
    state: Literal["starting", "ready", "failed"]
    steps: tuple[Step, ...] = ()
    error: str = ""
    hint: str = ""


class Progress:
    """Writes the report of one engine's start."""

    def __init__(self, cloud: Cloud, engine_pid: int) -> None:
        self._path = progress_file(cloud)
        self._pid = engine_pid
        self._steps: list[Step] = []
        self._write("starting")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Report `text` as going on, then as done. Steps may overlap."""
        number = len(self._steps)
        started_at = time.time()
        self._steps.append(Step(text, started_at))
        self._write("starting")
        yield
        self._steps[number] = Step(text, started_at, time.time())
        self._write("starting")

    def ready(self) -> None:
        """Report that the cloud is ready."""
        self._write("ready")

    def failed(self, error: BaseException) -> None:
        """Report why the cloud will not become ready."""
        cause = _first_cause(error)
        self._write("failed", format_chain(cause), (cause.hint or "") if isinstance(cause, UserError) else "")

    def _write(self, state: Literal["starting", "ready", "failed"], error: str = "", hint: str = "") -> None:
        report = Report(self._pid, state, tuple(self._steps), error, hint)
        write_atomic(self._path, msgspec.json.encode(report), mode=0o644)


def find_report(cloud: Cloud) -> Report | None:
    """The report of the engine that started last, or None."""
    try:
        return msgspec.json.decode(progress_file(cloud).read_bytes(), type=Report)
    except FileNotFoundError:
        return None


def progress_file(cloud: Cloud) -> Path:
    """Where the report lies."""
    return cloud.run / "progress.json"


def _first_cause(error: BaseException) -> BaseException:
    """Out of a group of errors the one that a person can act on, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_first_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, PilviError)), causes[0])
