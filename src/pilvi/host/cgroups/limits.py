"""What a unit may use at most."""

from __future__ import annotations

import msgspec

__all__ = ["CgroupLimits"]


class CgroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one group; None means none.

    `memory_bytes` counts page cache as well. `cpu_milli` is thousandths of one processor. `pids` counts threads.
    """

    memory_bytes: int | None = None
    cpu_milli: int | None = None
    pids: int | None = None
