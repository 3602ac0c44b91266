"""Moves a machine from its process to a second one, by QEMU's live migration. The table of docs/design/0005 is acted upon here.

One lock for each machine is held while processes are started or ended for a move; `QemuBackend.ensure` and `stop` take it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, format_chain
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.status import GuestStatus
from pilvi.host.qemu.tracking import misses_writes
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.providers.kubevirt.machines.moves import MachineMoves, Move, MoveSettings
from pilvi.providers.kubevirt.machines.qemu.slots import Slots, other_slot, slot_sockets
from pilvi.providers.kubevirt.machines.qemu.taps import remove_taps
from pilvi.providers.names import machine_unit

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units
    from pilvi.providers.kubevirt.machines.backend import MachineSpec
    from pilvi.providers.kubevirt.machines.qemu.guests import Guests

__all__ = ["QemuMoves"]

log = logging.getLogger(__name__)

_READY_TIMEOUT_S = 20.0
_HEARD_TIMEOUT_S = 5.0
_SETTLE_TIMEOUT_S = 20.0
# QEMU has no word for "without limit" but a number that no memory bus reaches.
_NO_LIMIT_BYTES = 1 << 40
_UNDER_WAY = {"setup", "active", "device", "pre-switchover", "wait-unplug", "cancelling", "postcopy-active"}
_LOOK_S = 0.05


class QemuMoves(MachineMoves):
    """See `MachineMoves`. `start(spec, slot)` starts the process that waits, in that slot."""

    def __init__(
        self, cloud: Cloud, units: Units, guests: Guests, slots: Slots, start: Callable[[MachineSpec, str], Awaitable[None]]
    ) -> None:
        self._cloud = cloud
        self._units = units
        self._guests = guests
        self._slots = slots
        self._start = start
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, uid: str) -> AsyncIterator[None]:
        """Nobody else starts or ends a process of the machine meanwhile."""
        lock = self._locks.setdefault(uid, asyncio.Lock())
        async with lock:
            yield

    async def prepare(self, spec: MachineSpec) -> None:
        """See `MachineMoves`."""
        async with self.held(spec.uid):
            if not self._runs(spec.uid, self._slots.active(spec.uid)):
                raise MachineRefused(machine_unit(spec.uid), "migrate", "the machine does not run")
            target = other_slot(self._slots.active(spec.uid))
            unit = machine_unit(spec.uid, target)
            if not self._runs(spec.uid, target):
                await self._clear(spec.uid, target)
                await self._start(spec, target)
                await self._units.wait_ready(unit, _READY_TIMEOUT_S)
            async with self._monitor(spec.uid, target) as monitor:
                await monitor.execute("migrate-set-capabilities", {"capabilities": [_capability("return-path")]})
                try:
                    await monitor.execute("migrate-incoming", {"uri": self._uri(spec.uid, target)})
                except MachineRefused as e:
                    if "already" not in e.reason:
                        raise

    async def must_stand_still(self, uid: str) -> bool:
        """See `MachineMoves`."""
        source = self._guests.get(uid)
        return await source.query_status() is GuestStatus.RUNNING and await misses_writes(source)

    async def begin(self, uid: str, settings: MoveSettings) -> None:
        """See `MachineMoves`."""
        source = self._guests.get(uid)
        info = await source.execute("query-migrate")
        if info.get("status") in _UNDER_WAY or await source.query_status() is GuestStatus.POSTMIGRATE:
            return
        capabilities = [_capability("return-path"), _capability("auto-converge", is_on=settings.auto_converge)]
        await source.execute("migrate-set-capabilities", {"capabilities": capabilities})
        bandwidth = settings.bandwidth_bytes or _NO_LIMIT_BYTES
        await source.execute("migrate-set-parameters", {"max-bandwidth": bandwidth, "downtime-limit": settings.downtime_ms})
        await source.execute("migrate", {"uri": self._uri(uid, other_slot(self._slots.active(uid)))})

    async def look(self, uid: str) -> Move:
        """See `MachineMoves`."""
        active = self._slots.active(uid)
        target = other_slot(active)
        if not self._runs(uid, active):
            return await self._look_at_target(uid, target)
        source = self._guests.get(uid)
        info: dict[str, Any] = await source.execute("query-migrate")
        status = info.get("status")
        if await source.query_status() is GuestStatus.POSTMIGRATE:
            # What came before may not know how long it stood still.
            return _with_figures("completed", await source.execute("query-migrate"))
        if status in _UNDER_WAY:
            return _with_figures("running", info)
        if self._units.state(machine_unit(uid, target)).state == "absent":
            return Move("none")
        if not self._runs(uid, target):
            last = self._units.state(machine_unit(uid, target)).log_tail.strip().splitlines()[-2:]
            return Move("failed", f"the process on the target has ended: {' | '.join(last) or 'it said nothing'}")
        if status == "failed":
            return Move("failed", str(info.get("error-desc") or "QEMU does not say why"))
        if status == "cancelled":
            return Move("failed", "it was called off")
        return Move("prepared")

    async def pause(self, uid: str) -> None:
        """See `MachineMoves`."""
        source = self._guests.get(uid)
        if await source.query_status() is GuestStatus.RUNNING:  # else QEMU would write its disks out each time
            await source.stop()

    async def finish(self, uid: str, *, resume: bool = False) -> None:
        """See `MachineMoves`."""
        async with self.held(uid):
            if (await self._look_or_none(uid)).phase == "completed":
                await self._take_over(uid)
            await self._clear(uid, other_slot(self._slots.active(uid)))
        if resume:
            await self._guests.get(uid).cont()

    async def abandon(self, uid: str, *, resume: bool = False) -> bool:
        """See `MachineMoves`."""
        async with self.held(uid):
            has_moved = await self.settle(uid)
        if resume and not has_moved and self._runs(uid, self._slots.active(uid)):
            source = self._guests.get(uid)
            if await source.query_status() is GuestStatus.PAUSED:
                await source.cont()
        return has_moved

    async def settle(self, uid: str) -> bool:
        """End what is under way, to either side; returns whether the guest has moved. With the lock held."""
        active = self._slots.active(uid)
        target = other_slot(active)
        if self._units.state(machine_unit(uid, target)).state == "absent":
            return False
        deadline = asyncio.get_running_loop().time() + _SETTLE_TIMEOUT_S
        move = await self._look_or_none(uid)
        while move.phase == "running" and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
                await self._guests.get(uid).execute("migrate_cancel")
            await asyncio.sleep(_LOOK_S)
            move = await self._look_or_none(uid)
        if move.phase == "completed":
            await self._take_over(uid)
            await self._clear(uid, active)
            return True
        await self._clear(uid, target)
        return False

    async def settle_loss(self, uid: str) -> None:
        """When the process that had the guest is gone and another one is there: see whether it has the guest. With the lock held."""
        active = self._slots.active(uid)
        if not self._runs(uid, active) and self._units.state(machine_unit(uid, other_slot(active))).state != "absent":
            await self.settle(uid)

    async def clear(self, uid: str) -> None:
        """Take away what is left of the slot that is not in use."""
        await self._clear(uid, other_slot(self._slots.active(uid)))

    def is_deciding(self, uid: str) -> bool:
        """Whether the guest may be in a process that nobody has asked yet: its first one is gone, and a second one is there."""
        active = self._slots.active(uid)
        return not self._runs(uid, active) and self._runs(uid, other_slot(active))

    async def _take_over(self, uid: str) -> None:
        active = self._slots.active(uid)
        await self._slots.switch(uid, other_slot(active))
        log.info("machine=%s goes on in unit %s", uid, machine_unit(uid, other_slot(active)))
        await self._units.stop(machine_unit(uid, active), grace_s=0)
        self._guests.forget(uid)
        await self._guests.follow(uid, _HEARD_TIMEOUT_S)

    async def _clear(self, uid: str, slot: str) -> None:
        await self._units.stop(machine_unit(uid, slot), grace_s=0)
        await remove_taps(self._cloud, uid, slot)
        await on_disk(remove_tree, slot_sockets(self._cloud, uid, slot).folder)

    async def _look_or_none(self, uid: str) -> Move:
        try:
            return await self.look(uid)
        except (MachineRefused, MachineUnreachable, TimedOut) as e:
            return Move("failed", format_chain(e))

    async def _look_at_target(self, uid: str, target: str) -> Move:
        if not self._runs(uid, target):
            return Move("failed", "the machine has ended")
        try:
            async with self._monitor(uid, target) as monitor:
                status = await monitor.query_status()
        except (MachineRefused, MachineUnreachable, TimedOut) as e:
            return Move("failed", format_chain(e))
        if status is GuestStatus.INMIGRATE:
            return Move("failed", "the machine ended before it had moved")
        return Move("completed")

    def _runs(self, uid: str, slot: str) -> bool:
        return self._units.state(machine_unit(uid, slot)).state == "running"

    def _uri(self, uid: str, target: str) -> str:
        return f"unix:{slot_sockets(self._cloud, uid, target).folder / 'move.sock'}"

    @asynccontextmanager
    async def _monitor(self, uid: str, slot: str) -> AsyncIterator[Monitor]:
        """For a few words with a process that nobody follows: QEMU answers one client at a time."""
        monitor = Monitor(machine_unit(uid, slot), slot_sockets(self._cloud, uid, slot).monitor, lambda _event: None)
        running = asyncio.create_task(monitor.run())
        try:
            yield monitor
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def _capability(name: str, *, is_on: bool = True) -> dict[str, Any]:
    return {"capability": name, "state": is_on}


def _with_figures(phase: Literal["running", "completed"], info: dict[str, Any]) -> Move:
    copied = (info.get("ram") or {}).get("transferred") or 0
    return Move(phase, "", int(info.get("total-time") or 0), int(info.get("downtime") or 0), int(copied))
