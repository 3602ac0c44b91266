"""What QEMU has met when it stopped a guest at an error of a disk."""

from __future__ import annotations

from pilvi.errors import MachineRefused
from pilvi.host.qemu.monitor import Monitor

__all__ = ["has_no_space"]


async def has_no_space(monitor: Monitor) -> bool:
    """Whether a write of the guest failed because the host's disk is full. Raises as `Monitor.execute`."""
    answer = await monitor.execute("query-block")
    try:
        return any(device.get("io-status") == "nospace" for device in answer)
    except (AttributeError, TypeError) as e:
        raise MachineRefused(monitor.name, "query-block", f"{answer!r} is not understood") from e
