"""Carries out what `changes` plans, on machines that run. A step that fails is tried again, and harms no guest."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import TYPE_CHECKING

import msgspec

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, UserError, format_chain
from pilvi.host.qemu.cards import nic_device
from pilvi.host.qemu.drives import node_name
from pilvi.host.qemu.hotplug import close_files, offer_memory, plug_drive, plug_nic, plug_sockets, resize_drive, unplug_drive, unplug_nic
from pilvi.host.qemu.present import Present, look
from pilvi.lib.disk import on_disk
from pilvi.providers.kubevirt.machines.backend import DiskState, MachineState
from pilvi.providers.kubevirt.machines.qemu.changes import (
    CloseFiles,
    OfferMemory,
    PlugCard,
    PlugDisk,
    PlugSockets,
    ResizeDisk,
    SetLink,
    Step,
    UnplugCard,
    UnplugDisk,
    Wanted,
    cards_in,
    disks_of,
    plan_changes,
)
from pilvi.providers.kubevirt.machines.qemu.places import assign_places, read_places, write_places

if TYPE_CHECKING:
    from pathlib import Path

    from pilvi.host.qemu.monitor import Monitor
    from pilvi.host.qemu.spec import Drive, QemuSpec
    from pilvi.providers.kubevirt.machines.qemu.guests import Guests

__all__ = ["Changing", "place_drives"]

log = logging.getLogger(__name__)

# Most guests let go of a disk at once. What takes longer is told by an event, which wakes the machine's controller.
_LET_GO_S = 2.0
_TRY_AGAIN_S = 15.0


@dataclass(frozen=True)
class _Seen:
    """What was found and done last: `wanted` is None when there was something left to do."""

    present: Present
    drives: tuple[Drive, ...]
    wanted: Wanted | None = None
    failures: dict[str, str] = field(default_factory=dict)


class Changing:
    """Keeps the hardware of running machines as it is wanted."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._seen: dict[str, _Seen] = {}
        # QEMU has not answered about these, or something has happened in them since they were last looked at.
        self._stale: set[str] = set()
        guests.subscribe(self._look_again)

    async def bring(self, uid: str, wanted: Wanted, places: Path) -> None:
        """Have the machine be as wanted, as far as it can now. What QEMU does not answer is left for the next time. Raises OSError."""
        before = self._seen.get(uid)
        if before is not None and before.wanted == wanted and uid not in self._stale:
            return
        try:
            await self._bring(uid, wanted, places)
        except (MachineRefused, MachineUnreachable, TimedOut) as e:
            log.debug("machine=%s %s", uid, format_chain(e))
            self._stale.add(uid)

    def add_to(self, uid: str, state: MachineState) -> MachineState:
        """`state` with what is known of the machine's hardware."""
        seen = self._seen.get(uid)
        is_over = uid not in self._stale and (seen is None or seen.wanted is not None)
        state = dataclasses.replace(state, look_again_s=None if is_over else _TRY_AGAIN_S)
        if seen is None:
            return state
        return dataclasses.replace(
            state,
            disks=tuple(_disks(seen)),
            cards=tuple(cards_in(seen.present)),
            sockets=seen.present.sockets,
            memory_at_start_bytes=seen.present.memory_bytes,
            memory_bytes=seen.present.memory_bytes + seen.present.more_bytes,
            unchanged=dict(seen.failures),
        )

    def forget(self, uid: str) -> None:
        """The machine is gone."""
        self._seen.pop(uid, None)
        self._stale.discard(uid)

    async def _bring(self, uid: str, wanted: Wanted, places: Path) -> None:
        monitor = self._guests.get(uid)
        before = self._seen.get(uid)
        links = dict(before.present.links) if before is not None else {}
        present = await self._look(uid, links)
        machine = await place_drives(wanted.machine, places, disks_of(present))
        placed = dataclasses.replace(wanted, machine=machine)
        failures: dict[str, str] = {}
        steps = plan_changes(placed, present)
        for step in steps:
            try:
                await _take(monitor, step)
                _note(links, step)
            except (MachineRefused, MachineUnreachable, TimedOut, UserError, OSError) as e:
                failures[_subject(step)] = format_chain(e)
        if steps:
            present = await self._look(uid, links)
        settled = not failures and not plan_changes(placed, present)
        self._seen[uid] = _Seen(present, machine.drives, wanted if settled else None, failures)

    async def _look(self, uid: str, links: dict[str, bool]) -> Present:
        # Before the first question: what happens while QEMU answers may not be in its answers.
        self._stale.discard(uid)
        return dataclasses.replace(await look(self._guests.get(uid)), links=links)

    def _look_again(self, uid: str) -> None:
        """Something has happened in the machine: what was found is old."""
        self._stale.add(uid)


async def place_drives(machine: QemuSpec, places: Path, kept: set[str] | frozenset[str] = frozenset()) -> QemuSpec:
    """The machine with a place on its bus for each disk, recorded before any is used. `kept` as in `assign_places`. Raises OSError."""
    known = await on_disk(read_places, places)
    drives, chosen = assign_places(machine.drives, known, kept)
    if chosen != known:
        await on_disk(write_places, places, chosen)
    return msgspec.structs.replace(machine, drives=drives)


async def _take(monitor: Monitor, step: Step) -> None:
    match step:
        case PlugDisk(drive=drive):
            if drive.bus not in ("virtio", "scsi"):
                raise UserError(
                    f"a disk on bus {drive.bus} cannot come while the machine runs", hint="restart it, or use bus scsi or virtio"
                )
            if drive.port is None:
                raise UserError(f"there is no room for another disk on bus {drive.bus}", hint="remove one, or use bus scsi")
            await plug_drive(monitor, drive, drive.port)
        case UnplugDisk(disk=disk):
            await unplug_drive(monitor, disk, timeout_s=_LET_GO_S)
        case CloseFiles(nodes=nodes):
            await close_files(monitor, nodes)
        case ResizeDisk(disk=disk, size_bytes=size_bytes):
            await resize_drive(monitor, disk, size_bytes)
        case PlugCard(nic=nic):
            await plug_nic(monitor, nic, nic.port or 0)
        case UnplugCard(card=card):
            await unplug_nic(monitor, card, timeout_s=_LET_GO_S)
        case SetLink(card=card, is_up=is_up):
            await monitor.set_link(nic_device(card), is_up=is_up)
        case PlugSockets(sockets=sockets):
            await plug_sockets(monitor, sockets)
        case OfferMemory(size_bytes=size_bytes):
            await offer_memory(monitor, size_bytes)


def _note(links: dict[str, bool], step: Step) -> None:
    """Remember how the cable of a card is now."""
    match step:
        case PlugCard(nic=nic):
            links[nic.name] = True
        case UnplugCard(card=card):
            links.pop(card, None)
        case SetLink(card=card, is_up=is_up):
            links[card] = is_up
        case _:
            pass


def _subject(step: Step) -> str:
    match step:
        case PlugDisk(drive=drive):
            return f"disk {drive.name}"
        case UnplugDisk(disk=disk) | ResizeDisk(disk=disk):
            return f"disk {disk}"
        case CloseFiles(nodes=nodes):
            return f"files {nodes}"
        case PlugCard(nic=nic):
            return f"card {nic.name}"
        case UnplugCard(card=card) | SetLink(card=card):
            return f"card {card}"
        case PlugSockets():
            return "processors"
        case OfferMemory():
            return "memory"


def _disks(seen: _Seen) -> list[DiskState]:
    attached = disks_of(seen.present)
    wanted = {drive.name: drive for drive in seen.drives}
    targets = _targets(seen.drives)
    return [
        DiskState(
            name=name,
            attached=name in attached,
            detaching=name not in wanted,
            target=targets.get(name, ""),
            size_bytes=seen.present.nodes.get(node_name(name)),
            message=seen.failures.get(f"disk {name}", ""),
        )
        for name in (*wanted, *sorted(attached - wanted.keys()))
    ]


def _targets(drives: tuple[Drive, ...]) -> dict[str, str]:
    """What a Linux guest would most likely call them; libvirt's names, which KubeVirt shows."""
    targets = {drive.name: f"vd{_letters(drive.port)}" for drive in drives if drive.bus == "virtio" and drive.port is not None}
    others = [drive.name for drive in drives if drive.bus != "virtio"]
    return targets | {name: f"sd{_letters(number)}" for number, name in enumerate(others)}


def _letters(number: int) -> str:
    first, last = divmod(number, len(ascii_lowercase))
    return (_letters(first - 1) if first else "") + ascii_lowercase[last]
