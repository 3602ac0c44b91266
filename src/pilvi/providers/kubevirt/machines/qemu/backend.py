"""Runs machines under QEMU: one unit for each, which lives on without the engine.

What a machine has on the host: the folder `<home>/machines/<uid>`, a tap device for each interface in its Vpc's namespace, a namespace
without links for its process, a folder with sockets, and one unit. QEMU keeps what becomes of the guest until it has been asked
(`host.qemu`), so an engine that was away sees a guest that has powered off meanwhile. A process that has gone without having been asked to
is a crash, unless the host itself was started anew: then the machine is started again on the same disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, UserError, format_chain
from pilvi.host.qemu.present import look
from pilvi.host.qemu.spec import Sockets
from pilvi.host.qemu.unit import limits, overhead_bytes, qemu_unit
from pilvi.kit.store import Store
from pilvi.lib.deadline import wait_for
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.node import SEED
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineSpec, MachineState
from pilvi.providers.kubevirt.machines.folder import kept_folder, list_machine_folders, machine_folder
from pilvi.providers.kubevirt.machines.qemu.changes import Wanted, as_present
from pilvi.providers.kubevirt.machines.qemu.changing import Changing, place_drives
from pilvi.providers.kubevirt.machines.qemu.control import QemuControl
from pilvi.providers.kubevirt.machines.qemu.domain import cards_of, plan_machine, sockets_of
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.dumps import QemuDumps
from pilvi.providers.kubevirt.machines.qemu.files import prepare_files
from pilvi.providers.kubevirt.machines.qemu.guests import Guests
from pilvi.providers.kubevirt.machines.qemu.moves import QemuMoves
from pilvi.providers.kubevirt.machines.qemu.node import find_first_boot, find_image, plan_node, with_node_disk, write_seed
from pilvi.providers.kubevirt.machines.qemu.offer import Offers
from pilvi.providers.kubevirt.machines.qemu.slots import Slots, in_slot, other_slot, slot_sockets
from pilvi.providers.kubevirt.machines.qemu.state import Tpms, prepare_state
from pilvi.providers.kubevirt.machines.qemu.taps import absent_ports, ensure_taps, remove_taps
from pilvi.providers.kubevirt.machines.volumes import MachineVolume, VolumeDisk
from pilvi.providers.names import SLOTS, machine_netns, machine_unit
from pilvi.providers.sizing import Size

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.qemu.spec import QemuSpec
    from pilvi.host.units import CgroupLimits, Units
    from pilvi.providers.platform import Platform

__all__ = ["QemuBackend"]

log = logging.getLogger(__name__)

_FIDELITIES = {"kvm": "Kvm", "tcg": "Tcg"}
_FIRST_LOOK_S = 5.0
# A guest that is still booting may not hear the first time.
_ASK_AGAIN_S = 5.0


class QemuBackend(MachineBackend):
    """See `MachineBackend`. `kit` is the folder that holds node images. Nodes trust `registry_authority` (PEM) for the cloud's registry."""

    name = "qemu"

    def __init__(self, cloud: Cloud, units: Units, kit: Path, registry_authority: str = "") -> None:
        self._cloud = cloud
        self._kit = kit
        self._registry_authority = registry_authority
        self._units = units
        self._offers = Offers(cloud)
        self._slots = Slots(cloud)
        self._guests = Guests(cloud, self._slots)
        self._first_boots: dict[str, int] = {}
        self._tpms = Tpms(units)
        self._types: dict[str, str] = {}
        self._changing = Changing(self._guests)
        self._limits: dict[str, CgroupLimits] = {}
        self.control = QemuControl(cloud, self._guests, self._slots)
        self.dumps: QemuDumps = QemuDumps(self._guests)
        self.moves: QemuMoves = QemuMoves(cloud, units, self._guests, self._slots, self._start_target)

    @classmethod
    def for_platform(cls, platform: Platform) -> QemuBackend:
        """The backend of a cloud."""
        return cls(platform.cloud, platform.units, Store().root, platform.registry_authority)

    @property
    def fidelity(self) -> str:  # type: ignore[override]
        """`Kvm` or `Tcg`; empty until the first machine has been asked for."""
        return _FIDELITIES[self._offers.found.accelerator] if self._offers.found is not None else ""

    @property
    def fidelity_message(self) -> str:  # type: ignore[override]
        """See `MachineBackend`."""
        if self._offers.found is None:
            return ""
        if self._offers.found.accelerator == "kvm":
            return "a virtual machine on the host's processor"
        return f"a virtual machine whose processor is emulated, which is many times slower; KVM: {self._offers.found.reason}"

    def overhead_bytes(self, size: Size) -> int:
        """QEMU itself, page tables, threads and the screen; what translated code may take under TCG is a limit, not a need."""
        return overhead_bytes(size.memory_bytes, size.vcpus, accelerator="kvm")

    async def ensure(self, spec: MachineSpec) -> MachineState:
        """Give the machine its tap and its files and start it; one that runs is changed where that can be, one that has ended looked at."""
        async with self.moves.held(spec.uid):
            await self.moves.settle_loss(spec.uid)
            slot = self._slots.active(spec.uid)
            await self._attach(spec, slot)
            if self._units.state(machine_unit(spec.uid, slot)).state == "absent":
                await self._start(spec, slot)
            await self._guests.follow(spec.uid, _FIRST_LOOK_S)
            await self._learn_type(spec.uid)
            # What moves stays as it is: both sides have to have the same hardware.
            moves = self._units.state(machine_unit(spec.uid, other_slot(slot))).state != "absent"
            if not moves and self.state(spec.uid).phase in ("running", "paused"):
                await self._change(spec, slot)
        return self.state(spec.uid)

    async def _start_target(self, spec: MachineSpec, slot: str) -> None:
        await self._attach(spec, slot)
        await self._start(spec, slot, incoming=True)

    async def _start(self, spec: MachineSpec, slot: str, *, incoming: bool = False) -> None:
        files = self._files(spec)
        machine, volumes = await self._plan(spec, files, slot, incoming=incoming)
        await prepare_files(files, volumes)
        await prepare_state(machine, spec, files, await self._offers.get())
        _make_socket_folder(machine.sockets, spec.user)
        if not incoming:
            await self._tpms.start(machine, files, spec.instance)
            self._changing.forget(spec.uid)
        self._limits.pop(spec.uid, None)
        await self._units.ensure(qemu_unit(await place_drives(machine, files.places)))

    async def _plan(
        self, spec: MachineSpec, files: MachineFiles, slot: str, *, incoming: bool = False
    ) -> tuple[QemuSpec, tuple[MachineVolume, ...]]:
        """The machine as it should be now, and the volumes whose files it has to itself. Raises UserError."""
        offer = await self._offers.get()
        image = await on_disk(find_image, spec, self._kit)
        if image is not None:
            await on_disk(write_seed, spec, image, files, self._registry_authority)
            spec = await on_disk(with_node_disk, spec, image)
        machine = plan_machine(self._cloud, spec, files, spec.user, offer)
        if image is not None:
            machine = plan_node(machine, spec, image, files)
        if incoming:
            machine = as_present(machine, await look(self._guests.get(spec.uid)))
        return in_slot(self._cloud, machine, spec.uid, slot, incoming=incoming), spec.volumes

    async def _learn_type(self, uid: str) -> None:
        """QEMU is asked, since it may be of another version than the one that is installed by now."""
        if uid not in self._types:
            with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
                self._types[uid] = await self._guests.get(uid).machine_type()

    async def _change(self, spec: MachineSpec, slot: str) -> None:
        """Have a machine that runs be as it is wanted now, as far as it can be."""
        files = self._files(spec)
        try:
            machine, _ = await self._plan(spec, files, slot)
        except UserError as e:  # what it could not be started with any more does it no harm while it runs
            log.warning("machine=%s stays as it is: %s", spec.uid, format_chain(e))
            return
        sizes = {volume.name: volume.size_bytes for volume in spec.volumes if isinstance(volume, VolumeDisk) and not volume.ephemeral}
        await self._limit(spec.uid, machine)
        await self._changing.bring(spec.uid, Wanted(machine, sizes, cards_of(spec)), files.places)
        await remove_taps(self._cloud, spec.uid, slot, absent_ports(spec, slot, self.state(spec.uid).cards))

    def _files(self, spec: MachineSpec) -> MachineFiles:
        return MachineFiles(machine_folder(self._cloud, spec.uid), kept_folder(self._cloud, spec.keeper) if spec.keeper else None)

    def state(self, uid: str) -> MachineState:
        """From the unit and from what QEMU has said last."""
        unit = self._units.state(self._unit(uid))
        if unit.state == "absent" or not self._has(uid):
            return MachineState("absent", first_boot="unknown")
        started = datetime.fromtimestamp(unit.started_at, UTC) if unit.started_at is not None else None
        if self.moves.is_deciding(uid):
            return MachineState("starting", started, message="it is asked whether the machine has moved", first_boot="unknown")
        if unit.state != "running":
            last = " | ".join(unit.log_tail.strip().splitlines()[-3:])
            message = f"QEMU has ended ({unit.exit or 'unknown'}); its last lines: {last or 'none'}"
            return MachineState("failed", started, message=message, first_boot="unknown")
        state = self._changing.add_to(uid, self._guests.describe(uid, started, self._types.get(uid, "")))
        return dataclasses.replace(state, first_boot=self._first_boot(uid)) if state.first_boot == "unknown" else state

    def _first_boot(self, uid: str) -> int | Literal["unknown"] | None:
        """Only a node says how its user data has ended; once it has, that does not change."""
        files = MachineFiles(machine_folder(self._cloud, uid))
        if not files.seed(SEED).exists():
            return "unknown"
        if uid not in self._first_boots and (ended := find_first_boot(files)) is not None:
            self._first_boots[uid] = ended
        return self._first_boots.get(uid)

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """See `MachineBackend`."""
        self._guests.subscribe(changed)

    async def run(self) -> None:
        """See `MachineBackend`."""
        await self._guests.run([uid for uid in await self.list_uids() if self._has(uid)])

    async def stop(self, uid: str, grace_s: float) -> None:
        """Press the power button and wait; what has not powered off by then loses its process."""
        async with self.moves.held(uid):
            await self.moves.settle(uid)
        unit = self._unit(uid)
        if self._units.state(unit).state == "absent" or not self._has(uid):
            return
        if grace_s > 0 and self._is_up(uid):
            deadline = asyncio.get_running_loop().time() + grace_s
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
                    await self._guests.get(uid).power_down()
                with contextlib.suppress(TimedOut):
                    await wait_for(lambda: not self._is_up(uid), min(left, _ASK_AGAIN_S), "the guest to power off")
                    break
        await self._units.stop(unit, grace_s=1.0)
        await self._tpms.stop(machine_unit(uid))
        self._forget(uid)

    async def _limit(self, uid: str, machine: QemuSpec) -> None:
        """A guest can write to memory that it was not offered, and the host would have to find it; so its process may have no more."""
        wanted = limits(machine, max(machine.memory.size_bytes, self.state(uid).memory_bytes or 0))
        if self._limits.get(uid) == wanted:
            return
        with contextlib.suppress(OSError):  # it uses more still; tried again at the next pass
            await on_disk(self._units.cgroups.create, self._cloud.cgroup(self._unit(uid)), wanted)
            self._limits[uid] = wanted

    async def kill(self, uid: str) -> None:
        """See `MachineBackend`. A process that waits for the guest ends with it, since it is of no use without."""
        async with self.moves.held(uid):
            for slot in SLOTS:
                await self._units.stop(machine_unit(uid, slot), grace_s=0)
            await self._tpms.stop(machine_unit(uid))
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        """What was known of the process."""
        self._guests.forget(uid)
        self._changing.forget(uid)
        for known in (self._types, self._limits):
            known.pop(uid, None)

    def _unit(self, uid: str) -> str:
        return machine_unit(uid, self._slots.active(uid))

    def _has(self, uid: str) -> bool:
        """Whether the machine of this UID runs under QEMU: backends share the names of units."""
        return MachineFiles(machine_folder(self._cloud, uid)).disks.is_dir()

    def _is_up(self, uid: str) -> bool:
        return self.state(uid).phase in ("running", "starting")

    async def remove(self, uid: str) -> None:
        """Unit, tap, namespace, sockets, folder: in this order, so that nothing is taken away under a running process."""
        from pilvi.host.network import delete_netns  # noqa: PLC0415 (half a second of import that a CLI must not pay)

        await self.kill(uid)
        for slot in SLOTS:
            await remove_taps(self._cloud, uid, slot)
        await delete_netns(machine_netns(self._cloud, uid))
        for slot in SLOTS:
            await on_disk(remove_tree, slot_sockets(self._cloud, uid, slot).folder)
        sockets = sockets_of(self._cloud, uid).folder
        with contextlib.suppress(OSError):  # other machines have theirs in it
            sockets.parent.rmdir()
        await on_disk(remove_tree, machine_folder(self._cloud, uid))
        self._first_boots.pop(uid, None)
        self._slots.forget(uid)

    async def list_uids(self) -> list[str]:
        """The folders of all machines; to remove one that another backend runs takes nothing from it but its folder."""
        return list_machine_folders(self._cloud)

    async def _attach(self, spec: MachineSpec, slot: str) -> None:
        from pilvi.host.network import ensure_netns  # noqa: PLC0415 (as above)

        await ensure_netns(machine_netns(self._cloud, spec.uid))
        await ensure_taps(spec, slot)


def _make_socket_folder(sockets: Sockets, user: int) -> None:
    """Only that user and root reach the sockets. Left-over ones are removed: QEMU cannot bind to a name that is there."""
    sockets.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    remove_tree(sockets.folder)
    sockets.folder.mkdir(mode=0o700)
    os.chown(sockets.folder, user, user)
