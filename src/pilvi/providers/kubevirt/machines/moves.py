"""How a running machine goes on in another process: what the migration controller asks of a backend that can do it.

Machines are named by the UID of their VirtualMachineInstance, as everywhere below `machines/`. A move is known by its processes alone
(docs/design/0005), so every method may be called repeatedly, and by an engine that has not seen the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pilvi.providers.kubevirt.machines.backend import MachineSpec

__all__ = ["MachineMoves", "Move", "MoveSettings"]


@dataclass(frozen=True)
class MoveSettings:
    """How memory is copied: bytes in a second (0: without limit), how long the guest may stand still, whether it may be slowed down."""

    bandwidth_bytes: int = 0
    downtime_ms: int = 300
    auto_converge: bool = False


@dataclass(frozen=True)
class Move:
    """How far a move is.

    `none`: there is no second process; `prepared`: it waits; `running`: memory is being copied; `completed`: the guest is the target's;
    `failed`: it is not, and `message` says why. Times and bytes are those of a move that runs or has completed.
    """

    phase: Literal["none", "prepared", "running", "completed", "failed"]
    message: str = ""
    total_ms: int = 0
    downtime_ms: int = 0
    copied_bytes: int = 0


class MachineMoves(Protocol):
    """The guest runs in one process or in the other, never in both. All raise MachineRefused, MachineUnreachable and TimedOut."""

    async def prepare(self, spec: MachineSpec) -> None:
        """Have a second process wait for the guest of the machine; returns when it does. Raises as `MachineBackend.ensure` too."""

    async def must_stand_still(self, uid: str) -> bool:
        """Whether the guest runs, and what it writes while its memory is copied would be lost: then `pause` comes before `begin`."""

    async def begin(self, uid: str, settings: MoveSettings) -> None:
        """Copy memory from now on, and move the guest as soon as what is left fits into the time that it may stand still."""

    async def look(self, uid: str) -> Move:
        """How far it is."""

    async def pause(self, uid: str) -> None:
        """Let the guest stand still until it has moved, which then surely ends."""

    async def finish(self, uid: str, *, resume: bool = False) -> None:
        """After `completed`: the machine is the second process from now on, and the first one ends. `resume` ends a `pause`."""

    async def abandon(self, uid: str, *, resume: bool = False) -> bool:
        """Call it off and end the process that has not got the guest. Returns whether the guest has moved nevertheless.

        `resume` ends a `pause` of a guest that has not.
        """
