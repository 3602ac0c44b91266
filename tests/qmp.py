"""A monitor that follows a QEMU, real or not, for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.status import Event


@asynccontextmanager
async def following(title: str, path: Path) -> AsyncIterator[tuple[Monitor, list[Event]]]:
    """The monitor, and the events that it has heard."""
    events: list[Event] = []
    monitor = Monitor(title, path, events.append)
    task = asyncio.create_task(monitor.run())
    try:
        yield monitor, events
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
