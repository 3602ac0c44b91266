"""Runs machines under QEMU: one unit for each, which lives on without the engine.

What a machine has on the host: the folder `<home>/machines/<uid>`, a tap device in its Vpc's namespace, a namespace without links for its
process, a folder with sockets, and one unit. QEMU keeps what becomes of the guest until it has been asked (`host.qemu`), so an engine
that was away sees a guest that has powered off meanwhile. A process that has gone without having been asked to is a crash, unless the
host itself was started anew: then the machine is started again on the same disks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pilvi.errors import DriverError, MachineRefused, MachineUnreachable, TimedOut
from pilvi.host.qemu.spec import Sockets, Uefi
from pilvi.host.qemu.unit import overhead_bytes, qemu_unit
from pilvi.lib.deadline import wait_for
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.folder import list_machine_folders, machine_folder
from pilvi.providers.kubevirt.machines.qemu.control import QemuControl
from pilvi.providers.kubevirt.machines.qemu.domain import plan_machine, sockets_of
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.files import prepare_files
from pilvi.providers.kubevirt.machines.qemu.guests import Guests
from pilvi.providers.kubevirt.machines.qemu.moves import QemuMoves
from pilvi.providers.kubevirt.machines.qemu.offer import Offers
from pilvi.providers.kubevirt.machines.qemu.slots import Slots, in_slot, remove_ports, slot_sockets
from pilvi.providers.names import SLOTS, machine_netns, machine_port, machine_unit, port_in_slot
from pilvi.providers.sizing import Size

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units
    from pilvi.providers.platform import Platform

__all__ = ["QemuBackend"]

_FIDELITIES = {"kvm": "Kvm", "tcg": "Tcg"}
_FIRST_LOOK_S = 5.0
# A guest that is still booting may not hear the first time.
_ASK_AGAIN_S = 5.0


class QemuBackend(MachineBackend):
    """See `MachineBackend`."""

    name = "qemu"

    def __init__(self, cloud: Cloud, units: Units) -> None:
        self._cloud = cloud
        self._units = units
        self._offers = Offers(cloud)
        self._slots = Slots(cloud)
        self._guests = Guests(cloud, self._slots)
        self.control = QemuControl(cloud, self._guests, self._slots)
        self.moves: QemuMoves = QemuMoves(cloud, units, self._guests, self._slots, self._start_target)

    @classmethod
    def for_platform(cls, platform: Platform) -> QemuBackend:
        """The backend of a cloud."""
        return cls(platform.cloud, platform.units)

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
        """Give the machine its tap and its files and start it; one that runs, or has ended, is only looked at."""
        async with self.moves.held(spec.uid):
            await self.moves.settle_loss(spec.uid)
            slot = self._slots.active(spec.uid)
            await self._attach(spec, slot)
            if self._units.state(machine_unit(spec.uid, slot)).state == "absent":
                await self._start(spec, slot)
            await self._guests.follow(spec.uid, _FIRST_LOOK_S)
        return self.state(spec.uid)

    async def _start_target(self, spec: MachineSpec, slot: str) -> None:
        await self._attach(spec, slot)
        await self._start(spec, slot, incoming=True)

    async def _start(self, spec: MachineSpec, slot: str, *, incoming: bool = False) -> None:
        offer = await self._offers.get()
        files = MachineFiles(machine_folder(self._cloud, spec.uid))
        machine = in_slot(self._cloud, plan_machine(self._cloud, spec, files, spec.user, offer), spec.uid, slot, incoming=incoming)
        secure = isinstance(machine.firmware, Uefi) and machine.firmware.secure_boot
        uefi = offer.find_uefi(secure_boot=secure) if isinstance(machine.firmware, Uefi) else None
        await prepare_files(files, spec.volumes, uefi.variables if uefi is not None else None)
        _make_socket_folder(machine.sockets, spec.user)
        await self._units.ensure(qemu_unit(machine))

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
        return self._guests.describe(uid, started)

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
        self._guests.forget(uid)

    async def kill(self, uid: str) -> None:
        """See `MachineBackend`. A process that waits for the guest ends with it, since it is of no use without."""
        async with self.moves.held(uid):
            for slot in SLOTS:
                await self._units.stop(machine_unit(uid, slot), grace_s=0)
            self._guests.forget(uid)

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
            await remove_ports(self._cloud, uid, slot)
        await delete_netns(machine_netns(self._cloud, uid))
        for slot in SLOTS:
            await on_disk(remove_tree, slot_sockets(self._cloud, uid, slot).folder)
        sockets = sockets_of(self._cloud, uid).folder
        with contextlib.suppress(OSError):  # other machines have theirs in it
            sockets.parent.rmdir()
        await on_disk(remove_tree, machine_folder(self._cloud, uid))
        self._slots.forget(uid)

    async def list_uids(self) -> list[str]:
        """The folders of all machines; to remove one that another backend runs takes nothing from it but its folder."""
        return list_machine_folders(self._cloud)

    async def _attach(self, spec: MachineSpec, slot: str) -> None:
        from pilvi.host.network import Tap, ensure_netns, ensure_tap  # noqa: PLC0415 (as above)

        await ensure_netns(machine_netns(self._cloud, spec.uid))
        try:
            await ensure_tap(
                Tap(netns=spec.leg.netns, name=port_in_slot(machine_port(spec.uid), slot), master=spec.leg.bridge, mtu=spec.leg.mtu)
            )
        except (FileNotFoundError, DriverError) as e:
            raise NetworkNotReady(f"machine {spec.namespace}/{spec.name} cannot be attached to bridge {spec.leg.bridge} yet") from e


def _make_socket_folder(sockets: Sockets, user: int) -> None:
    """Only that user and root reach the sockets. Left-over ones are removed: QEMU cannot bind to a name that is there."""
    sockets.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    remove_tree(sockets.folder)
    sockets.folder.mkdir(mode=0o700)
    os.chown(sockets.folder, user, user)
