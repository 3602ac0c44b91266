"""What the guests of all machines under QEMU do: one QMP connection for each, and the last that was heard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, format_chain
from pilvi.host.qemu.agent import Agent
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.status import Event, GuestStatus
from pilvi.host.qemu.trouble import has_no_space
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.backend import MachinePhase, MachineState
from pilvi.providers.kubevirt.machines.guest import GuestFacts
from pilvi.providers.kubevirt.machines.qemu.facts import ask_guest
from pilvi.providers.kubevirt.machines.qemu.room import NO_ROOM, wait_for_room
from pilvi.providers.kubevirt.machines.qemu.slots import Slots, slot_sockets
from pilvi.providers.names import machine_unit

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.qemu.spec import Sockets

__all__ = ["Guests"]

log = logging.getLogger(__name__)

# query-status's words -> phase, KubeVirt's reason, message.
_STATES: dict[str, tuple[MachinePhase, str, str]] = {
    "running": ("running", "", ""),
    "paused": ("paused", "PausedByUser", "VMI was paused by user"),
    "prelaunch": ("paused", "PausedByUser", "VMI was started paused"),
    "suspended": ("paused", "PausedByUser", "the guest has suspended itself"),
    "io-error": (
        "paused",
        "PausedIOError",
        "VMI was paused, IO error: the host failed to read or write a disk of the machine; mend it (its kernel's log tells), then unpause",
    ),
    "inmigrate": ("running", "", "the guest is about to arrive"),
    "finish-migrate": ("running", "", "the guest is moving"),
    "postmigrate": ("running", "", "the guest has moved"),
    "save-vm": ("running", "MemoryDump", "the guest stands still while its memory is written to a claim"),
    "watchdog": ("paused", "PausedByWatchdog", "the guest has stopped to feed its watchdog"),
    "shutdown": ("succeeded", "", "the guest has powered off"),
    "guest-panicked": ("failed", "GuestPanicked", "the guest's kernel has panicked"),
    "internal-error": ("failed", "InternalError", "QEMU cannot go on with the guest"),
}

# The guest has let go of a device, or has taken or given back memory.
_OF_DEVICES = ("DEVICE_DELETED", "MEMORY_DEVICE_SIZE_CHANGE")

# What a machine is before QEMU has said anything.
_UNHEARD: tuple[MachinePhase, str, str] = ("starting", "", "QEMU has not answered yet")


class Guests:
    """Follows the guests of all machines that run. `run` has to run."""

    def __init__(self, cloud: Cloud, slots: Slots) -> None:
        self._cloud = cloud
        self._slots = slots
        self._monitors: dict[str, Monitor] = {}
        self._statuses: dict[str, GuestStatus] = {}
        self._agents: dict[str, Agent] = {}  # of those that answered when it was last looked
        self._facts: dict[str, GuestFacts] = {}
        self._full: set[str] = set()  # of those that stand still because there was no room for what they wrote
        self._thawing: dict[str, asyncio.Task[None]] = {}
        self._looking: dict[str, asyncio.Event] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._callbacks: list[Callable[[str], None]] = []

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """`changed(uid)` after what a guest does has changed."""
        self._callbacks.append(changed)

    async def run(self, uids: list[str]) -> None:
        """Follow these from now on, and all that are added. Ends only by cancellation."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for uid in uids:
                    self._begin(uid)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None

    async def follow(self, uid: str, timeout_s: float) -> None:
        """Follow this guest too; returns when it has been heard of, or after that time."""
        self._begin(uid)
        with contextlib.suppress(TimedOut):
            await wait_for(lambda: uid in self._statuses, timeout_s, "QEMU to say what the guest does")

    def get(self, uid: str) -> Monitor:
        """The monitor of a machine that is followed. Raises MachineUnreachable when it is not."""
        if uid not in self._monitors:
            raise MachineUnreachable("the machine does not run")
        return self._monitors[uid]

    def has_agent(self, uid: str) -> bool:
        """Whether an agent answered when it was last looked."""
        return uid in self._agents

    def agent(self, uid: str) -> Agent:
        """The agent of the machine, whether it answers or not."""
        # The same for all that talk with it, since the channel has one line.
        return self._agents.get(uid) or Agent(machine_unit(uid), self._sockets(uid).agent)

    def _sockets(self, uid: str) -> Sockets:
        return slot_sockets(self._cloud, uid, self._slots.active(uid))

    def thaw_later(self, uid: str, agent: Agent, after_s: float) -> None:
        """Thaw the guest's file systems after that time, unless `thaw_no_more` comes before."""
        self.thaw_no_more(uid)
        if self._group is not None:
            self._thawing[uid] = self._group.create_task(_thaw(agent, after_s), name=f"thaw {uid}")

    def thaw_no_more(self, uid: str) -> None:
        """They are thawed: what was to come later must not end the next freeze."""
        if (task := self._thawing.pop(uid, None)) is not None:
            task.cancel()

    def describe(self, uid: str, started_at: datetime | None, machine_type: str = "") -> MachineState:
        """What was heard last."""
        status = self._statuses.get(uid)
        phase, reason, message = _UNHEARD if status is None else _STATES.get(status.value, ("starting", "", f"QEMU is in state {status}"))
        if uid in self._full:
            message = NO_ROOM
        guest = self._facts.get(uid)
        return MachineState(
            phase,
            started_at,
            message=message,
            reason=reason,
            first_boot="unknown",
            agent=uid in self._agents if status is not None else None,
            machine_type=machine_type,
            guest_os=dict(guest.os) if guest is not None else {},
            guest=guest,
        )

    def forget(self, uid: str) -> None:
        """The machine is gone."""
        self.thaw_no_more(uid)
        if (task := self._following.pop(uid, None)) is not None:
            task.cancel()
        for known in (self._monitors, self._statuses, self._looking, self._agents, self._facts):
            known.pop(uid, None)
        self._full.discard(uid)

    def _begin(self, uid: str) -> None:
        if self._group is None or uid in self._following:
            return
        wake = self._looking[uid] = asyncio.Event()
        self._monitors[uid] = Monitor(machine_unit(uid), self._sockets(uid).monitor, lambda event: self._hear(uid, event, wake))
        self._following[uid] = self._group.create_task(self._follow(uid, self._monitors[uid], wake), name=f"guest {uid}")

    def _hear(self, uid: str, event: Event, wake: asyncio.Event) -> None:
        wake.set()
        if event.name in _OF_DEVICES:
            for changed in self._callbacks:
                changed(uid)

    async def _follow(self, uid: str, monitor: Monitor, wake: asyncio.Event) -> None:
        """Events only wake: what is true is asked for, since some may have been missed."""
        asking: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            group.create_task(monitor.run())
            while True:
                await wake.wait()
                wake.clear()
                try:
                    status, has_agent = await monitor.query_status(), await monitor.is_agent_there()
                    is_full = status is GuestStatus.IO_ERROR and await has_no_space(monitor)
                except (MachineUnreachable, MachineRefused, TimedOut) as e:
                    log.debug("machine=%s %s", uid, format_chain(e))
                    continue
                if has_agent and uid not in self._agents and uid not in self._statuses:
                    await _thaw(self.agent(uid), 0)  # what an earlier engine has frozen and did not live to thaw
                if (status, has_agent, is_full) == (self._statuses.get(uid), uid in self._agents, uid in self._full):
                    continue
                self._statuses[uid] = status
                if is_full and uid not in self._full:
                    self._full.add(uid)
                    group.create_task(self._resume(uid, monitor, wake))
                elif not is_full:
                    self._full.discard(uid)
                if has_agent and uid not in self._agents:
                    self._agents[uid] = self.agent(uid)
                    asking = group.create_task(self._ask(uid, self._agents[uid]))
                elif not has_agent and asking is not None:
                    asking.cancel()
                    self._agents.pop(uid, None)
                    self._facts.pop(uid, None)
                self._tell(uid)

    async def _ask(self, uid: str, agent: Agent) -> None:
        def told(facts: GuestFacts) -> None:
            self._facts[uid] = facts
            self._tell(uid)

        await ask_guest(agent, lambda: self._statuses.get(uid) is GuestStatus.RUNNING, told)

    async def _resume(self, uid: str, monitor: Monitor, wake: asyncio.Event) -> None:
        """Let a guest go on once there is room for what it writes, unless somebody else has done that meanwhile."""
        await wait_for_room([self._cloud.home / "machines", self._cloud.home / "volumes"])
        if uid in self._full:
            with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
                if await monitor.query_status() is GuestStatus.IO_ERROR:
                    log.info("machine=%s goes on: there is room again", uid)
                    await monitor.cont()
            self._full.discard(uid)
        wake.set()

    def _tell(self, uid: str) -> None:
        for changed in self._callbacks:
            changed(uid)


async def _thaw(agent: Agent, after_s: float) -> None:
    await asyncio.sleep(after_s)
    with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
        if await agent.is_frozen():
            await agent.thaw()
