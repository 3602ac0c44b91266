"""Which uids of this host a cloud may use for its units.

The pool lies above what distributions, subuid ranges and systemd's containers use (systemd's UIDS-GIDS document lists them).
"""

from __future__ import annotations

import pwd
from collections.abc import Iterable
from pathlib import Path

from pilvi.errors import UserError

__all__ = ["UID_BLOCK_SIZE", "find_uid_block", "list_taken_uids"]

UID_POOL = range(1_879_048_192, 2_147_483_648)
UID_BLOCK_SIZE = 4096


def find_uid_block(taken: Iterable[range]) -> int:
    """The first uid of the lowest block that meets none of the taken ranges. Pure. Raises UserError when the pool is used up."""
    ranges = [uids for uids in taken if uids]
    for base in range(UID_POOL.start, UID_POOL.stop, UID_BLOCK_SIZE):
        if not any(uids.start < base + UID_BLOCK_SIZE and base < uids.stop for uids in ranges):
            return base
    raise UserError(f"no block of {UID_BLOCK_SIZE} uids is free on this host", hint="see /etc/subuid and /var/lib/pilvi-host.json")


def list_taken_uids(subuid: Path = Path("/etc/subuid")) -> list[range]:
    """What users of this host and their subordinate ranges have taken."""
    taken = [range(entry.pw_uid, entry.pw_uid + 1) for entry in pwd.getpwall()]
    try:
        lines = subuid.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return taken
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
            taken.append(range(int(fields[1]), int(fields[1]) + int(fields[2])))
    return taken
