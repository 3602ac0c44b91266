"""Dumps of machines under QEMU: it gets the disk as an open file, since its user may not reach the claim's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.errors import MachineUnreachable, UserError
from pilvi.host.disks import allocated_bytes, empty_disk, need_room
from pilvi.host.qemu.dump import begin_dump, look_at_dump
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.providers.kubevirt.machines.dumps import MachineDump, MachineDumps
from pilvi.providers.kubevirt.machines.qemu.room import has_room

if TYPE_CHECKING:
    from pilvi.providers.kubevirt.machines.qemu.guests import Guests

__all__ = ["QemuDumps"]

_ELF = b"\x7fELF"
_CORE = (4).to_bytes(2, "little")  # e_type, at byte 16


class QemuDumps(MachineDumps):
    """See `MachineDumps`."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._begun: dict[str, Path] = {}  # by this engine

    async def is_busy(self, uid: str) -> bool:
        """See `MachineDumps`."""
        try:
            return (await look_at_dump(self._guests.get(uid))).status == "active"
        except MachineUnreachable:
            return False

    async def prepare(self, uid: str, disk: Path, size_bytes: int) -> None:
        """See `MachineDumps`."""
        await on_disk(_check, disk, size_bytes)
        self._begun.pop(uid, None)
        await finish_on_disk(empty_disk, disk)

    async def advance(self, uid: str, disk: Path) -> MachineDump:
        """See `MachineDumps`. What QEMU says may be about an earlier dump: of this one there is something on the disk."""
        monitor = self._guests.get(uid)
        dump = await look_at_dump(monitor)
        if dump.status == "active":
            return MachineDump("running")
        begun = self._begun.get(uid) == disk or await on_disk(_holds_dump, disk)
        if dump.status == "none" or not begun:
            await finish_on_disk(empty_disk, disk)
            descriptor = await on_disk(os.open, disk, os.O_WRONLY | os.O_CLOEXEC)
            try:
                await begin_dump(monitor, descriptor)
            finally:
                os.close(descriptor)
            self._begun[uid] = disk
            return MachineDump("running")
        if dump.status == "completed":
            await finish_on_disk(_sync, disk)
            return MachineDump("completed")
        roomy = await on_disk(has_room, disk.parent)
        await finish_on_disk(empty_disk, disk)
        why = (
            "the host could not write the disk; its kernel's log tells"
            if roomy
            else "the disk of the cloud's home is full; make room there"
        )
        return MachineDump("failed", f"{why}, and ask again")


def _check(disk: Path, size_bytes: int) -> None:
    """Raises UserError unless a dump of that size may replace what is on the disk, and there is room for it."""
    held_bytes = allocated_bytes(disk)
    if held_bytes and not _holds_dump(disk):
        raise UserError("the claim holds data, which a dump would replace", hint="name a claim that is new, or that holds a dump")
    need_room(disk.parent, size_bytes - held_bytes)


def _holds_dump(disk: Path) -> bool:
    with disk.open("rb") as file:
        head = file.read(18)
    return head[:4] == _ELF and head[16:] == _CORE


def _sync(disk: Path) -> None:
    descriptor = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
