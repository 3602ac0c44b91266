"""Who uses a machine's console or screen: one connection at a time, and the newest wins, unless it does not want to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["InUse", "Sessions"]


class InUse(Exception):  # noqa: N818 (a state, not a fault)
    """Somebody else has it."""


@dataclass(eq=False)
class _Session:
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """What is in use, by a key of the caller's."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Session] = {}

    @asynccontextmanager
    async def alone(self, key: tuple[str, str], *, polite: bool = False) -> AsyncIterator[asyncio.Event]:
        """Have it for the block, which has to end soon after the event that it gets is set. Whoever had it is told, and waited for.

        Raises InUse when somebody has it and this one is `polite`.
        """
        # Several may come at the same time; each waits for those before it.
        while (before := self._open.get(key)) is not None:
            if polite:
                raise InUse
            before.replaced.set()
            await before.ended.wait()
        session = self._open[key] = _Session()
        try:
            yield session.replaced
        finally:
            del self._open[key]
            session.ended.set()
