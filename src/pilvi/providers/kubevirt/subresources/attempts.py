"""Writes that are planned anew when somebody else has written meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pilvi.errors import Conflict

__all__ = ["write_planned"]

ATTEMPTS = 5
T = TypeVar("T")


async def write_planned(plan: Callable[[], Awaitable[T]], write: Callable[[T], Awaitable[None]]) -> None:
    """Plan and write, up to five times while the write meets a Conflict, which is raised in the end. What `plan` raises is final."""
    for attempts_left in reversed(range(ATTEMPTS)):
        planned = await plan()
        try:
            await write(planned)
        except Conflict:
            if not attempts_left:
                raise
        else:
            return
