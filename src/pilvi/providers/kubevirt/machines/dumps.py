"""How the memory of a running machine gets into the disk of a claim: what the instance controller asks of a backend that can do it.

A dump is an ELF core file that begins at the first byte of the disk; what is left of the disk behind it is empty. Nothing is remembered of
one: whether it was begun is told by the disk, how it went by the machine's process. So an engine may die at any step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["MachineDump", "MachineDumps"]


@dataclass(frozen=True)
class MachineDump:
    """How far a dump is; `message` says why it failed."""

    phase: Literal["running", "completed", "failed"]
    message: str = ""


class MachineDumps(Protocol):
    """Machines are named by the UID of their VirtualMachineInstance. All raise MachineRefused, MachineUnreachable and TimedOut."""

    async def is_busy(self, uid: str) -> bool:
        """Whether a dump of the machine is being written. It cannot be called off; a machine without a process writes none."""

    async def prepare(self, uid: str, disk: Path, size_bytes: int) -> None:
        """Empty the disk for a dump of about so many bytes. With `is_busy` it must not be called.

        Raises UserError when the disk holds something else than a dump, or there is no room on the host, OSError.
        """

    async def advance(self, uid: str, disk: Path) -> MachineDump:
        """Have the memory be written to a disk that was prepared, and say how far that is. A failed one leaves the disk empty.

        Raises OSError.
        """
