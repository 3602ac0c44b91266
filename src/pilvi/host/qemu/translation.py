"""Translated code: what QEMU keeps of a guest's instructions when there is no KVM.

QEMU gives it out in regions (tcg/region.c): every processor fills one of its own and takes the next; when none is left and a processor
needs one, all are emptied. A processor that is plugged in takes its first region without asking whether there is one left, and QEMU aborts
when there is not, with the guest. A guest that is idle may stay for ever where the last region is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilvi.errors import MachineRefused, UserError

if TYPE_CHECKING:
    from pilvi.host.qemu.monitor import Monitor

__all__ = ["check_room", "free_regions", "translation_bytes"]

_LEAST, _MOST = 32 << 20, 256 << 20
# QEMU makes regions of 2 MiB, and larger ones rather than more than 8 for each processor that the guest may get.
_REGION = 2 << 20
_REGIONS_PER_PROCESSOR = 8
_SIZE = re.compile(r"^gen code size\s+(\d+)/(\d+)", re.MULTILINE)


def translation_bytes(memory_bytes: int, most_processors: int) -> int:
    """Translated code that a guest has at most without KVM, for so much memory and so many processors as it may get.

    QEMU's own choice is a gigabyte. A Linux guest of 256 MiB boots as fast with 32 MiB (2 % measured), and code grows with what runs. The
    more regions, the more seldom has a processor that is plugged in to wait for one.
    """
    regions = 0 if most_processors == 1 else most_processors * _REGIONS_PER_PROCESSOR
    return min(max(memory_bytes // 8, _LEAST, regions * _REGION), _MOST)


def free_regions(statistics: str, processors: int, most: int) -> int | None:
    """Regions that nobody has, at least, of a machine with so many `processors` and room for `most`; None when it cannot be told. Pure.

    `statistics` are QEMU's `x-query-jit`. How full each processor's region is they do not say, so up to one for each is counted twice.
    """
    if (found := _SIZE.search(statistics)) is None:
        return None
    used, size = int(found[1]), int(found[2])
    regions = round(size / _REGION)
    regions = most if regions <= most else min(regions, most * _REGIONS_PER_PROCESSOR)
    return regions - used * regions // size - processors


async def check_room(monitor: Monitor) -> None:
    """Make sure that one more processor can be plugged in now. Raises UserError when it cannot, and as `Monitor.execute`."""
    if (await monitor.execute("query-kvm"))["enabled"]:
        return
    places = await monitor.execute("query-hotpluggable-cpus")
    processors = sum("qom-path" in place for place in places)
    try:
        statistics = str((await monitor.execute("x-query-jit"))["human-readable-text"])
    except MachineRefused:  # the command is not promised
        statistics = ""
    free = free_regions(statistics, processors, len(places))
    hint = "move the machine to another virtual host, or restart it"
    if free is None:
        raise UserError("QEMU does not tell whether it has room for another processor's translated code", hint=hint)
    # One of the others may fill its region before this answer is read; two do not, in a millisecond.
    if free < 2:
        raise UserError("QEMU has no room for another processor's translated code until the guest runs more; it is tried again", hint=hint)
