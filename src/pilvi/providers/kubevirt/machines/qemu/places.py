"""Where the disks of a machine sit on their buses: chosen once, and kept in the machine's folder over every start of it.

A guest knows a disk by its address (`host.qemu.ports`). One that is taken out while the machine runs must not move those after it,
neither now nor when the same machine is started again after a power cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pilvi.host.qemu.drives import ROOM
from pilvi.host.qemu.spec import Drive
from pilvi.lib.files import find_json, write_json

__all__ = ["Places", "assign_places", "read_places", "write_places"]


@dataclass(frozen=True)
class Places:
    """Bus and number by the name of the disk."""

    disks: Mapping[str, tuple[str, int]] = field(default_factory=dict)


def assign_places(drives: tuple[Drive, ...], known: Places, kept: Collection[str] = ()) -> tuple[tuple[Drive, ...], Places]:
    """The drives with their ports, and what is to be known from now on. `kept` names those that the guest has not let go of yet.

    Disks beyond a bus's room get no port; who starts or plugs them is told so by it.
    """
    wanted = {drive.name: drive.bus for drive in drives}
    disks = {name: place for name, place in known.disks.items() if wanted.get(name) == place[0] or (name in kept and name not in wanted)}
    for drive in drives:
        if drive.name not in disks:
            taken = {number for bus, number in disks.values() if bus == drive.bus}
            free = next((number for number in range(ROOM[drive.bus]) if number not in taken), None)
            if free is not None:
                disks[drive.name] = (drive.bus, free)
    placed = tuple(msgspec.structs.replace(drive, port=disks[drive.name][1] if drive.name in disks else None) for drive in drives)
    return placed, Places(disks)


def read_places(file: Path) -> Places:
    """What is known of a machine; nothing of a new one. Raises OSError."""
    return msgspec.convert(find_json(file) or {}, type=Places)


def write_places(file: Path, places: Places) -> None:
    """Keep it. Raises OSError."""
    write_json(file, msgspec.to_builtins(places))
