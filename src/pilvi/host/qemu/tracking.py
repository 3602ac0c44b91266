"""What a guest writes while its memory is copied to another process, and what QEMU forgets of it without KVM.

The pages that were written are looked for again and again. Where a block of memory is a whole number of 64 pages, QEMU looks at 64 at a
time, and before 9.0 forgets to have the emulation tell of further writes to those that it has found
(`cpu_physical_memory_sync_dirty_bitmap`); by its source, later ones forget it in all blocks but the first. The guest then arrives with old
pages, and crashes. In any other block QEMU looks at each page, and forgets nothing; so an emulated guest gets two pages more than it was
promised.
"""

from __future__ import annotations

from typing import Any

from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.spec import QemuSpec

__all__ = ["misses_writes", "promised_bytes", "ram_bytes"]

_MIB = 1 << 20
_SPAN = 64 * 4096
_EXTRA = 2 * 4096  # QEMU's memory is a multiple of it


def ram_bytes(spec: QemuSpec) -> int:
    """How much memory QEMU is told to give the guest at its start. Huge pages cannot be divided."""
    is_odd = spec.accelerator == "tcg" and spec.memory.hugepage_bytes is None
    return spec.memory.size_bytes + (_EXTRA if is_odd else 0)


def promised_bytes(ram: int) -> int:
    """`spec.memory.size_bytes`, which is a whole number of MiB, of a guest that was started with `ram_bytes`."""
    return ram // _MIB * _MIB


async def misses_writes(monitor: Monitor) -> bool:
    """Whether the guest has memory in which writes are forgotten: huge pages, or some that came while it ran. Raises as `execute`."""
    if (await monitor.execute("query-kvm"))["enabled"]:
        return False
    devices: list[dict[str, Any]] = [found["data"] for found in await monitor.execute("query-memory-devices")]
    unused = {device["memdev"] for device in devices if not device["size"]}
    backends: list[dict[str, Any]] = await monitor.execute("query-memdev")
    return any(backend["size"] % _SPAN == 0 and f"/objects/{backend.get('id')}" not in unused for backend in backends)
