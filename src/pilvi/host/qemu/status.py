"""What QEMU says of its guest."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["CONNECTED", "DISCONNECTED", "Event", "GuestStatus"]

CONNECTED, DISCONNECTED = "CONNECTED", "DISCONNECTED"
"""Events of the monitor itself: from now on events arrive, or none do; what happened before or meanwhile has to be read."""


class GuestStatus(StrEnum):
    """QEMU's run states (qapi/run-state.json). A machine whose process stays when its guest ends is in SHUTDOWN then."""

    RUNNING = "running"
    PAUSED = "paused"
    PRELAUNCH = "prelaunch"
    IO_ERROR = "io-error"
    SHUTDOWN = "shutdown"
    GUEST_PANICKED = "guest-panicked"
    WATCHDOG = "watchdog"
    SUSPENDED = "suspended"
    INMIGRATE = "inmigrate"
    FINISH_MIGRATE = "finish-migrate"
    POSTMIGRATE = "postmigrate"
    SAVE_VM = "save-vm"
    RESTORE_VM = "restore-vm"
    DEBUG = "debug"
    COLO = "colo"
    INTERNAL_ERROR = "internal-error"

    @property
    def is_over(self) -> bool:
        """Whether the guest has ended and only its process is left."""
        return self in (GuestStatus.SHUTDOWN, GuestStatus.GUEST_PANICKED, GuestStatus.INTERNAL_ERROR)


class Event(msgspec.Struct, frozen=True):
    """Something that happened: an event of QMP, `CONNECTED` or `DISCONNECTED`."""

    name: str
    data: dict[str, Any] = {}
