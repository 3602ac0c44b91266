"""What has to be done to a machine that runs, so that it becomes the one that is wanted: a list of steps. Pure.

Planned from what QEMU says is there (`host.qemu.present`), so it does not matter who has died in the middle of which step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from pilvi.host.qemu.cards import nic_device
from pilvi.host.qemu.drives import drive_device, node_name
from pilvi.host.qemu.gear import MORE_MEMORY
from pilvi.host.qemu.present import Present
from pilvi.host.qemu.processor import MEMORY_BLOCK
from pilvi.host.qemu.spec import Drive, Nic, QemuSpec

__all__ = [
    "CloseFiles",
    "OfferMemory",
    "PlugCard",
    "PlugDisk",
    "PlugSockets",
    "ResizeDisk",
    "SetLink",
    "Step",
    "UnplugCard",
    "UnplugDisk",
    "Wanted",
    "as_present",
    "cards_in",
    "disks_of",
    "plan_changes",
]

_PROCESSOR = re.compile(r"cpu-(\d+)-\d+-\d+")
_NODE = re.compile(r"(d[0-9a-f]{8}-)\d+")


@dataclass(frozen=True)
class Wanted:
    """The machine as its specification has it now; `sizes` are those of the disks that can grow, in bytes by their names.

    `cards` are the network cards that it may keep, also those that are not in `machine` because their leg is not to be had now;
    None leaves all as they are.
    """

    machine: QemuSpec
    sizes: Mapping[str, int]
    cards: frozenset[str] | None = None


@dataclass(frozen=True)
class PlugDisk:
    """Have the guest see one more disk, at the place on its bus that `drive.port` says."""

    drive: Drive


@dataclass(frozen=True)
class UnplugDisk:
    """Ask the guest to let go of a disk, then close its files."""

    disk: str


@dataclass(frozen=True)
class CloseFiles:
    """Close what is left of a disk whose device is gone. `nodes` is what the names of its nodes begin with."""

    nodes: str


@dataclass(frozen=True)
class ResizeDisk:
    """Have the guest see that a disk has grown."""

    disk: str
    size_bytes: int


@dataclass(frozen=True)
class PlugCard:
    """Plug one more network card into the port that it names."""

    nic: Nic


@dataclass(frozen=True)
class UnplugCard:
    """Ask the guest to let go of a network card."""

    card: str


@dataclass(frozen=True)
class SetLink:
    """Plug the cable of a card in, or pull it."""

    card: str
    is_up: bool


@dataclass(frozen=True)
class PlugSockets:
    """Have the guest see that many sockets of processors in all."""

    sockets: int


@dataclass(frozen=True)
class OfferMemory:
    """Offer the guest that much memory beyond what it was started with."""

    size_bytes: int


Step: TypeAlias = PlugDisk | UnplugDisk | CloseFiles | ResizeDisk | PlugCard | UnplugCard | SetLink | PlugSockets | OfferMemory


def plan_changes(wanted: Wanted, present: Present) -> list[Step]:
    """The steps, in an order in which what goes makes room for what comes; none when all is as wanted."""
    return [*_disks(wanted, present), *_cards(wanted, present), *_size(wanted.machine, present)]


def disks_of(present: Present) -> set[str]:
    """The names of the disks that the guest sees."""
    prefix = drive_device("")
    return {device.removeprefix(prefix) for device in present.devices if device.startswith(prefix)}


def as_present(machine: QemuSpec, present: Present) -> QemuSpec:
    """The machine as a second process has to be made to receive the guest that runs with what is `present`.

    What has not come to the guest yet comes after it has moved; memory that came is beside what it was started with, and moves with it.
    """
    disks, cards = disks_of(present), cards_in(present)
    # Devices have as many queues as there were processors at the start, so those that came have to come as devices again.
    found = {int(match[1]) for device in present.devices if (match := _PROCESSOR.fullmatch(device))}
    plugged = sum(1 for socket in found if socket < present.sockets)
    return msgspec.structs.replace(
        machine,
        memory=msgspec.structs.replace(machine.memory, size_bytes=present.memory_bytes),
        cpu=msgspec.structs.replace(machine.cpu, sockets=present.sockets - plugged, plugged_sockets=plugged),
        drives=tuple(drive for drive in machine.drives if drive.name in disks),
        nics=tuple(nic for nic in machine.nics if nic.name in cards),
    )


def _disks(wanted: Wanted, present: Present) -> Iterator[Step]:
    drives = {drive.name: drive for drive in wanted.machine.drives}
    seen = disks_of(present)
    for disk in sorted(seen - drives.keys()):
        yield UnplugDisk(disk)
    named = {_prefix(disk) for disk in (*seen, *drives)}
    left = {match[1] for name in (*present.nodes, *present.files) if (match := _NODE.fullmatch(name))}
    for prefix in sorted(left - named):
        yield CloseFiles(prefix)
    for drive in drives.values():
        if drive.name not in seen:
            yield PlugDisk(drive)
        elif not drive.read_only and (size := wanted.sizes.get(drive.name)) is not None:
            shown = present.nodes.get(node_name(drive.name))
            if shown is not None and shown != size:
                yield ResizeDisk(drive.name, size)


def cards_in(present: Present) -> list[str]:
    """The names of the network cards that the guest sees."""
    prefix = nic_device("")
    return sorted(device.removeprefix(prefix) for device in present.devices if device.startswith(prefix))


def _cards(wanted: Wanted, present: Present) -> Iterator[Step]:
    if wanted.cards is None:
        return
    nics = {nic.name: nic for nic in wanted.machine.nics}
    seen = cards_in(present)
    for card in seen:
        if card not in wanted.cards and card not in nics:
            yield UnplugCard(card)
    for nic in nics.values():
        if nic.name not in seen:
            yield PlugCard(nic)
        # QEMU tells nobody whether a cable is plugged in, so the first engine that looks says it again. A new card has its own.
        if present.links.get(nic.name, nic.name not in seen or None) != nic.up:
            yield SetLink(nic.name, nic.up)


def _size(machine: QemuSpec, present: Present) -> Iterator[Step]:
    if machine.cpu.sockets > present.sockets:
        yield PlugSockets(machine.cpu.sockets)
    more = max(0, machine.memory.size_bytes - present.memory_bytes) // MEMORY_BLOCK * MEMORY_BLOCK
    if present.offered_bytes is not None and MORE_MEMORY in present.devices and more != present.offered_bytes:
        yield OfferMemory(more)


def _prefix(disk: str) -> str:
    return node_name(disk)[:-1]
