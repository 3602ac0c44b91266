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
from pilvi.host.qemu.status import GuestStatus
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.backend import MachinePhase, MachineState
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
    "inmigrate": ("running", "", "the guest is about to arrive"),
    "finish-migrate": ("running", "", "the guest is moving"),
    "postmigrate": ("running", "", "the guest has moved"),
    "io-error": ("paused", "PausedIOError", "VMI was paused, IO error"),
    "watchdog": ("paused", "PausedByWatchdog", "the guest has stopped to feed its watchdog"),
    "shutdown": ("succeeded", "", "the guest has powered off"),
    "guest-panicked": ("failed", "GuestPanicked", "the guest's kernel has panicked"),
    "internal-error": ("failed", "InternalError", "QEMU cannot go on with the guest"),
}

# What a machine is before QEMU has said anything.
_UNHEARD: tuple[MachinePhase, str, str] = ("starting", "", "QEMU has not answered yet")


class Guests:
    """Follows the guests of all machines that run. `run` has to run."""

    def __init__(self, cloud: Cloud, slots: Slots) -> None:
        self._cloud = cloud
        self._slots = slots
        self._monitors: dict[str, Monitor] = {}
        self._statuses: dict[str, GuestStatus] = {}
        self._agents: set[str] = set()
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
        return Agent(machine_unit(uid), self._sockets(uid).agent)

    def _sockets(self, uid: str) -> Sockets:
        return slot_sockets(self._cloud, uid, self._slots.active(uid))

    def thaw_later(self, uid: str, agent: Agent, after_s: float) -> None:
        """Thaw the guest's file systems after that time, unless it has been done by then."""
        if self._group is not None:
            self._group.create_task(_thaw(agent, after_s), name=f"thaw {uid}")

    def describe(self, uid: str, started_at: datetime | None, machine_type: str = "") -> MachineState:
        """What was heard last."""
        status = self._statuses.get(uid)
        phase, reason, message = _UNHEARD if status is None else _STATES.get(status.value, ("starting", "", f"QEMU is in state {status}"))
        return MachineState(
            phase, started_at, message=message, reason=reason, first_boot="unknown", agent=uid in self._agents, machine_type=machine_type
        )

    def forget(self, uid: str) -> None:
        """The machine is gone."""
        if (task := self._following.pop(uid, None)) is not None:
            task.cancel()
        for known in (self._monitors, self._statuses, self._looking):
            known.pop(uid, None)
        self._agents.discard(uid)

    def _begin(self, uid: str) -> None:
        if self._group is None or uid in self._following:
            return
        wake = self._looking[uid] = asyncio.Event()
        self._monitors[uid] = Monitor(machine_unit(uid), self._sockets(uid).monitor, lambda _event: wake.set())
        self._following[uid] = self._group.create_task(self._follow(uid, self._monitors[uid], wake), name=f"guest {uid}")

    async def _follow(self, uid: str, monitor: Monitor, wake: asyncio.Event) -> None:
        """Events only wake: what is true is asked for, since some may have been missed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(monitor.run())
            while True:
                await wake.wait()
                wake.clear()
                try:
                    status, has_agent = await monitor.query_status(), await monitor.is_agent_there()
                except (MachineUnreachable, MachineRefused, TimedOut) as e:
                    log.debug("machine=%s %s", uid, format_chain(e))
                    continue
                if has_agent and uid not in self._agents and uid not in self._statuses:
                    await _thaw(self.agent(uid), 0)  # what an earlier engine has frozen and did not live to thaw
                if status != self._statuses.get(uid) or has_agent != (uid in self._agents):
                    self._statuses[uid] = status
                    (self._agents.add if has_agent else self._agents.discard)(uid)
                    for changed in self._callbacks:
                        changed(uid)


async def _thaw(agent: Agent, after_s: float) -> None:
    await asyncio.sleep(after_s)
    with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
        if await agent.is_frozen():
            await agent.thaw()
