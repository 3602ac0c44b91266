"""How many compilations run side by side: as many as fit into the memory that is free, and always one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["MemoryBudget", "fits", "read_available_mb"]


_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroup v2, v1


def read_available_mb(meminfo: Path = _MEMINFO, limits: Sequence[Path] = _LIMITS) -> int:
    """Memory that new processes can use without swapping, in MB: MemAvailable, or the cgroup's limit when that is lower."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    available = int(match[1]) // 1024 if match else 0
    for limit in limits:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            available = min(available, int(text) // 1024**2)
    return available


def fits(wanted_mb: int, running_mb: Sequence[int], available_mb: int, most: int) -> bool:
    """Whether one more may start: always when nothing runs, else when the sum stays within memory and fewer than `most` run."""
    return not running_mb or (len(running_mb) < most and sum(running_mb) + wanted_mb <= available_mb)


class MemoryBudget:
    """Shares `available_mb` among at most `most` holders; one that wants more than there is runs alone."""

    def __init__(self, available_mb: int, most: int) -> None:
        self.available_mb = available_mb
        self._most = most
        self._running: list[int] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, wanted_mb: int) -> AsyncIterator[None]:
        """Wait for `wanted_mb`, and keep it inside the block."""
        async with self._changed:
            await self._changed.wait_for(lambda: fits(wanted_mb, self._running, self.available_mb, self._most))
            self._running.append(wanted_mb)
        try:
            yield
        finally:
            self._running.remove(wanted_mb)
            async with self._changed:
                self._changed.notify_all()
