"""The memory of a guest as an ELF core file (qapi/dump.json).

QEMU has the guest stand still meanwhile, and cannot be told to stop.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from pilvi.errors import MachineRefused
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.status import GuestStatus

__all__ = ["Dump", "begin_dump", "look_at_dump"]

_NAME = "memory-dump"


@dataclass(frozen=True)
class Dump:
    """The last dump of this process. `status` is QEMU's: none, active, completed, failed; bytes are what is written, and of how many."""

    status: str
    written_bytes: int = 0
    total_bytes: int = 0


async def begin_dump(monitor: Monitor, descriptor: int) -> None:
    """Have QEMU write the guest's memory from where the open file stands; returns at once. The caller closes its own descriptor.

    Raises as `Monitor.execute`; refused while the guest moves, or another dump is being written.
    """
    await monitor.add_descriptor(descriptor, _NAME)
    try:
        await monitor.execute("dump-guest-memory", {"paging": False, "protocol": f"fd:{_NAME}", "detach": True})
    except MachineRefused:
        with contextlib.suppress(MachineRefused):  # it has closed the file itself
            await monitor.execute("closefd", {"fdname": _NAME})
        raise


async def look_at_dump(monitor: Monitor) -> Dump:
    """How far it is; one that has ended stays active until the guest goes on. Raises as `Monitor.execute`."""
    answer = await monitor.execute("query-dump")
    try:
        dump = Dump(answer["status"], int(answer["completed"]), int(answer["total"]))
    except (KeyError, TypeError, ValueError) as e:
        raise MachineRefused(monitor.name, "query-dump", f"{answer!r} is not understood") from e
    if dump.status in ("completed", "failed") and await monitor.query_status() is GuestStatus.SAVE_VM:
        return Dump("active", dump.written_bytes, dump.total_bytes)
    return dump
