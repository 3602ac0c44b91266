"""In which of its two slots the process is that runs a machine's guest: a fact of this host, kept in the machine's folder.

Written by moves alone, in one step; a machine that has never moved has no such file and is in the first slot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pilvi.host.qemu.spec import Nic, QemuSpec
from pilvi.lib.disk import on_disk
from pilvi.lib.files import write_atomic
from pilvi.providers.kubevirt.machines.folder import machine_folder
from pilvi.providers.kubevirt.machines.qemu.domain import sockets_of
from pilvi.providers.names import SLOTS, machine_unit, port_in_slot

if TYPE_CHECKING:
    from pathlib import Path

    from pilvi.host.cloud import Cloud
    from pilvi.host.qemu.spec import Sockets

__all__ = ["Slots", "in_slot", "other_slot", "slot_sockets"]


def other_slot(slot: str) -> str:
    """The one that a machine in `slot` would move to."""
    return next(other for other in SLOTS if other != slot)


def slot_sockets(cloud: Cloud, uid: str, slot: str) -> Sockets:
    """Where the process in that slot listens."""
    sockets = sockets_of(cloud, uid)
    return msgspec.structs.replace(sockets, folder=sockets.folder.with_name(sockets.folder.name + slot))


def in_slot(cloud: Cloud, machine: QemuSpec, uid: str, slot: str, *, incoming: bool = False) -> QemuSpec:
    """The same machine in that slot; with `incoming` it waits for its guest. Pure. Files and namespace are those of both."""

    def moved(nic: Nic) -> Nic:
        return msgspec.structs.replace(nic, tap=msgspec.structs.replace(nic.tap, name=port_in_slot(nic.tap.name, slot)))

    return msgspec.structs.replace(
        machine,
        name=machine_unit(uid, slot),
        sockets=slot_sockets(cloud, uid, slot),
        nics=tuple(moved(nic) for nic in machine.nics),
        # Whether a guest that has moved stands still is known to the side that it comes from.
        paused=machine.paused and not incoming,
        incoming=incoming,
    )


class Slots:
    """Reads and writes the files; what was read is kept."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._known: dict[str, str] = {}

    def active(self, uid: str) -> str:
        """The slot of the process that runs the guest, or will run it. Blocks for a file of a byte, once for each machine."""
        if uid not in self._known:
            path = self._path(uid)
            self._known[uid] = path.read_text().strip() if path.is_file() else SLOTS[0]
        return self._known[uid]

    async def switch(self, uid: str, slot: str) -> None:
        """From now on, and for every later engine, the machine is the process in `slot`."""
        await on_disk(write_atomic, self._path(uid), f"{slot}\n".encode())
        self._known[uid] = slot

    def forget(self, uid: str) -> None:
        """The machine is gone."""
        self._known.pop(uid, None)

    def _path(self, uid: str) -> Path:
        return machine_folder(self._cloud, uid) / "slot"
