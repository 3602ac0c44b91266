"""Which process is meant: boot id, pid and start time together never mean two."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["Identity", "boot_id", "read_identity"]


class Identity(msgspec.Struct, frozen=True):
    """`started` is field 22 of /proc/<pid>/stat: clock ticks since the boot `boot`."""

    boot: str
    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether exactly that process runs. A zombie counts as dead."""
        return read_identity(self.pid) == self


def boot_id() -> str:
    """Differs after each start of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read_identity(pid: int) -> Identity | None:
    """The process that has that pid now; None when there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return Identity(boot_id(), pid, int(fields[19]))
