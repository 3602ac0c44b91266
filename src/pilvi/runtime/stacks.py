"""Where tasks wait: for the log, when something takes longer than it should and nobody can attach a debugger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["render_tasks", "where"]


def where(task: asyncio.Task[Any]) -> str:
    """The functions that the task is in, the outermost first: `run (main.py:12) > wait (locks.py:213)`.

    Tasks that it waits for have stacks of their own; what is inside of an asynchronous generator is not seen.
    """
    return " > ".join(f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})" for frame in _frames(task))


def render_tasks() -> str:
    """One line for each task of the running loop, by name."""
    return "\n".join(f"{task.get_name()}: {where(task)}" for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()))


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    awaited: Any = task.get_coro()
    while (frame := _first(awaited, "cr_frame", "gi_frame", "ag_frame")) is not None:
        yield frame
        awaited = _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")


def _first(awaited: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(awaited, name, None)) is not None), None)
