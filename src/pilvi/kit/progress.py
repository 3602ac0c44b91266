"""What a build tells about itself while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Progress", "Report", "Step"]

State: TypeAlias = Literal["present", "waiting", "running", "built", "failed"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Where one artefact stands. `doing` is for people.

    `compiled` of at most `packages` Go packages have been compiled: those that Go has in its cache are not compiled again, so the end may
    come early. Both are 0 when nothing is compiled. `seconds` counts since the artefact's own work began.
    """

    artefact: str
    state: State
    doing: str = ""
    compiled: int = 0
    packages: int = 0
    seconds: float = 0.0


Progress: TypeAlias = Callable[[Step], None]


class Report:
    """The steps of one artefact. Its builder sets `doing`, `packages` and `count`, a function that is asked how many are compiled."""

    def __init__(self, artefact: str, progress: Progress) -> None:
        self._artefact = artefact
        self._progress = progress
        self._started = time.monotonic()
        self.doing = ""
        self.packages = 0
        self.count: Callable[[], int] = int

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._started

    def send(self, state: State) -> None:
        """Tell where it stands now."""
        compiled = min(self.count(), self.packages)
        self._progress(
            Step(artefact=self._artefact, state=state, doing=self.doing, compiled=compiled, packages=self.packages, seconds=self.seconds)
        )

    @asynccontextmanager
    async def every_second(self) -> AsyncIterator[None]:
        """Inside the block tell once a second."""

        async def tell() -> None:
            while True:
                self.send("running")
                await asyncio.sleep(1)

        teller = asyncio.create_task(tell())
        try:
            yield
        finally:
            teller.cancel()
            await asyncio.gather(teller, return_exceptions=True)
