"""Where each device sits on a machine's PCI bus.

A guest names its devices by their addresses (`enp6s0`, Windows' offline disks), so an address may depend on nothing but the
device's own role and number: never on which other devices there are. That is why every machine has the same root ports, whether
something is plugged into them or not, and why every controller has a slot of its own, used or not. The layout is part of what a
machine is: change it, and every guest's network card gets another name at its next start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilvi.errors import Bug, UserError
from pilvi.host.qemu.words import Words, device

__all__ = ["DISK_PORTS", "NIC_PORTS", "SLOTS", "assign_ports", "disk_port", "nic_port", "root_ports"]

SLOTS = {
    "video": "1",
    "scsi": "2",
    "channels": "3",
    "balloon": "4",
    "rng": "5",
    "watchdog": "6",
    "usb": "7",
    "tablet": "8",
    "ac97": "9",
    "panic": "a",
    "sata1": "b",
    "sata2": "c",
    "memory": "d",
    "ich9": "1b",
}
"""Addresses on the root complex of what cannot be unplugged. The SATA controller of the chipset itself is at 1f.2."""

NIC_PORTS = 4
DISK_PORTS = 12
"""virtio disks and network cards that a machine can have, those that are plugged in while it runs included."""

_FIRST_NIC_SLOT, _FIRST_DISK_SLOT, _FUNCTIONS = 0x10, 0x11, 8


def nic_port(number: int) -> str:
    """The bus of a network card."""
    return f"nic{number}"


def disk_port(number: int) -> str:
    """The bus of a virtio disk."""
    return f"disk{number}"


def root_ports() -> Iterator[Words]:
    """The ports, one PCI function each."""
    names = [(nic_port(number), _FIRST_NIC_SLOT, number) for number in range(NIC_PORTS)]
    names += [(disk_port(number), _FIRST_DISK_SLOT + number // _FUNCTIONS, number % _FUNCTIONS) for number in range(DISK_PORTS)]
    for chassis, (name, slot, function) in enumerate(names, 1):
        yield device(
            "pcie-root-port",
            id=name,
            bus="pcie.0",
            addr=f"{slot:x}.{function:x}",
            chassis=chassis,
            multifunction=True if function == 0 else None,
        )


def assign_ports(wanted: Iterable[int | None], count: int, what: str, hint: str) -> list[int]:
    """A port for each: the one that it wants, else the first that nobody wants.

    Raises UserError when there are too many; `what` is the plural that the message names, `hint`
    what a person can do about too many.
    """
    wishes = list(wanted)
    fixed = [wish for wish in wishes if wish is not None]
    if len(wishes) > count:
        raise UserError(f"a machine has at most {count} {what}, not {len(wishes)}", hint=hint)
    if len(set(fixed)) < len(fixed) or any(wish not in range(count) for wish in fixed):
        raise Bug(f"ports {fixed} of {what}: one is meant twice, or is beyond {count - 1}")
    free = iter([number for number in range(count) if number not in fixed])
    return [next(free) if wish is None else wish for wish in wishes]
