"""The long-lived processes of a cloud: started, adopted, watched, restarted, stopped.

Units outlive the engine: a record and a control group are all that ties them to it, so another `Units` of the same cloud, also in
another process, finds and adopts them. A file lock per unit keeps two of them apart. Watching is done with pidfds; an end only
wakes, and what is true is read again under the lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pilvi.errors import TimedOut, UnitFailed, UserError, format_chain
from pilvi.host.cgroups import Cgroups, get_cgroups
from pilvi.host.cloud import Cloud
from pilvi.host.netns import is_inside
from pilvi.host.units import logs
from pilvi.host.units.identity import Identity, boot_id
from pilvi.host.units.probes import Probe, ask
from pilvi.host.units.process import clear_group, end_process, launch, open_pidfd, reap
from pilvi.host.units.record import Record, find_record, list_records, lock_unit, remove_record, save_record
from pilvi.host.units.spec import OpenFile, UnitSpec, UnitState, check_spec
from pilvi.host.units.state import read_state
from pilvi.lib.backoff import Backoff
from pilvi.lib.disk import on_disk

__all__ = ["Units"]

log = logging.getLogger(__name__)

_STEADY_S = 60.0
_PROBE_INTERVAL_S = 0.05
_LOG_CHECK_S = 60.0
_REFUSED_RETRY_S = 5.0


@dataclass
class _Watch:
    process: Identity
    pidfd: int


class Units:
    """The units of one cloud. Belongs to one event loop; safe to be used by many tasks, and beside other `Units` of the same cloud."""

    def __init__(self, cloud: Cloud, cgroups: Cgroups | None = None) -> None:
        """Raises UserError when this host has no usable control groups."""
        self.cloud = cloud
        self.cgroups = cgroups or get_cgroups()
        self._dir = cloud.units_dir
        self._watches: dict[str, _Watch] = {}
        self._exits: dict[Identity, str] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._subscribers: list[Callable[[str], None]] = []
        self._ended: asyncio.Queue[str] = asyncio.Queue()
        self._reviving: set[str] = set()
        self._found_dead: set[Identity] = set()  # died while nobody supervised them: the first who asks need not wait
        self._is_supervised = False

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """`callback(name)` is called in the loop after any change of a unit. Only a signal: read the state again."""
        self._subscribers.append(callback)

    async def ensure(self, spec: UnitSpec) -> UnitState:
        """Have the unit run as specified: start it, adopt the running process, or replace one of another digest.

        Also replaced is a process whose network namespace is no longer the one of that name. A unit that waits for its restart, or
        ended and is not to be restarted, is left alone as long as its digest is the same. Returns when the program has begun, not
        when it is ready. Raises UserError when there is no such program, UnitFailed when the process cannot be started, OSError
        when the disk refuses (full, no folder for the log); then nothing of it is left.
        """
        check_spec(spec)
        async with lock_unit(self._dir, spec.name) as lock_fd:
            record = find_record(self._dir, spec.name)
            if record is not None and record.digest == spec.digest and self._is_settled(record):
                if record.spec != spec:
                    record = msgspec.structs.replace(record, spec=spec)
                    save_record(self._dir, record)
                self._watch(record)
                return self._state(record)
            if record is not None and record.process.is_alive:
                why = "its specification has changed" if record.digest != spec.digest else f"namespace {spec.netns} was made anew"
                log.info("unit %s is replaced: %s", spec.name, why)
                await self._end(record, None)
            self._backoffs.pop(spec.name, None)
            try:
                record = await self._start(spec, lock_fd)
            except (UserError, UnitFailed, OSError):
                await self._clear(spec.name)
                raise
        self._notify(spec.name)
        return self._state(record)

    async def wait_ready(self, name: str, timeout_s: float, probe: Probe | None = None) -> None:
        """Return when the unit's probe answers, or `probe` in its stead; a unit without a probe is ready while it runs.

        Raises UnitFailed with the last log lines when there is no such unit or its process ends meanwhile, TimedOut with what
        the probe saw last.
        """
        record = self._get_record(name)
        deadline = time.monotonic() + timeout_s
        while (answer := await self._ask(record, probe)) is not None:
            current = self._get_record(name)
            if current.process != record.process or not current.process.is_alive:
                raise UnitFailed(name, f"ended before it was ready ({self._state(current).exit})", logs.tail(record.spec.log_path))
            if time.monotonic() > deadline:
                raise TimedOut(f"unit {name} to be ready: {answer}", timeout_s)
            await asyncio.sleep(_PROBE_INTERVAL_S)

    async def find_obstacle(self, name: str) -> str | None:
        """Ask the unit's probe once. None means ready; else what is in the way, in a few words."""
        record = find_record(self._dir, name)
        return "there is no such unit" if record is None else await self._ask(record)

    async def stop(self, name: str, grace_s: float | None = None) -> None:
        """End the unit and all that it has started; returns when its processes, its group and its record are gone.

        `grace_s` overrides the specification's; 0 kills at once. A unit that is not there is fine. Its log stays. Raises UnitFailed when
        a process does not end even by SIGKILL.
        """
        if not self._dir.exists():
            return
        async with lock_unit(self._dir, name):
            record = find_record(self._dir, name)
            if record is not None:
                await self._end(record, grace_s)
            await self._clear(name)
            self._backoffs.pop(name, None)
            (self._dir / f"{name}.lock").unlink(missing_ok=True)
        if record is not None:  # who stops a unit when woken by it would wake itself for ever
            self._notify(name)

    async def stop_all(self, grace_s: float | None = None) -> None:
        """End every unit of the cloud, all at the same time, and remove the cloud's control group.

        Where an order matters, stop the first ones by name before. Raises an ExceptionGroup of
        UnitFailed when some cannot be ended; the others are.
        """
        results = await asyncio.gather(
            *(self.stop(record.spec.name, grace_s) for record in list_records(self._dir)), return_exceptions=True
        )
        if errors := [result for result in results if isinstance(result, BaseException)]:
            raise BaseExceptionGroup("units cannot be ended", errors)
        await clear_group("all", self.cgroups, self.cloud.cgroup_root)

    def state(self, name: str) -> UnitState:
        """What the unit does now; `absent` when there is none of that name."""
        record = find_record(self._dir, name)
        return UnitState(name=name, state="absent") if record is None else self._state(record)

    def states(self) -> list[UnitState]:
        """All units of the cloud, by name."""
        return [self._state(record) for record in list_records(self._dir)]

    async def run(self) -> None:
        """Adopt what is there, and from then on restart what ends, with growing delays (0.2 s to 30 s, anew after a minute of life).

        Ends only by cancellation, and the units live on.
        """
        self._is_supervised = True
        try:
            for record in list_records(self._dir):
                self._adopt(record)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._bound_logs())
                while True:
                    name = await self._ended.get()
                    if name not in self._reviving:
                        self._reviving.add(name)
                        group.create_task(self._revive(name))
        finally:
            self._is_supervised = False
            self.close()

    def close(self) -> None:
        """Stop watching. The units live on; `ensure` watches again."""
        for name in list(self._watches):
            self._unwatch(name)

    def _is_settled(self, record: Record) -> bool:
        if record.process.is_alive:
            # A process in a namespace that has lost its name, or whose name is another's now, answers nobody.
            return record.spec.netns is None or is_inside(record.process.pid, record.spec.netns)
        if record.spec.restart == "never":
            return True
        # Dead. One that died under our eyes is restarted in its own time; else whoever asks for it is the one to start it.
        return self._is_supervised and record.process not in self._found_dead

    def _state(self, record: Record) -> UnitState:
        watch = self._watches.get(record.spec.name)
        if watch is not None and not watch.process.is_alive:
            # /proc knows it before the loop came round to the pidfd.
            self._on_end(record.spec.name)
        return read_state(self.cloud, record, self.cgroups, exit=self._exits.get(record.process))

    def _get_record(self, name: str) -> Record:
        record = find_record(self._dir, name)
        if record is None:
            raise UnitFailed(name, "is not there")
        return record

    async def _ask(self, record: Record, probe: Probe | None = None) -> str | None:
        if not record.process.is_alive:
            return "its process does not run"
        probe = probe or record.spec.ready
        return None if probe is None else await ask(probe, record.spec.netns)

    async def _start(self, spec: UnitSpec, lock_fd: int, *, restarts: int = 0, exit: str | None = None) -> Record:
        group = self.cloud.cgroup(spec.name)
        # What an earlier process of this unit has left behind would hold its ports and files.
        await clear_group(spec.name, self.cgroups, group)
        await launch(spec, self._dir, self.cgroups, group, lock_fd, restarts=restarts, exit=exit)
        record = self._get_record(spec.name)
        self._watch(record)
        log.info("unit %s started with pid %d", spec.name, record.process.pid)
        return record

    async def _end(self, record: Record, grace_s: float | None) -> None:
        spec = record.spec
        self._unwatch(spec.name)
        group = self.cloud.cgroup(spec.name)
        grace_s = spec.stop_grace_s if grace_s is None else grace_s
        await end_process(spec.name, record.process, self.cgroups, group, stop_signal=spec.stop_signal, grace_s=grace_s)
        how = reap(record.process)
        self._exits.pop(record.process, None)
        log.info("unit %s ended (%s)", spec.name, how)

    async def _clear(self, name: str) -> None:
        await clear_group(name, self.cgroups, self.cloud.cgroup(name))
        remove_record(self._dir, name)

    def _adopt(self, record: Record) -> None:
        if record.process.boot != boot_id():
            # From before a reboot: whoever wants the unit will ask for it, once its namespace is there again.
            remove_record(self._dir, record.spec.name)
            return
        if not record.process.is_alive:
            self._found_dead.add(record.process)
        self._watch(record)

    def _watch(self, record: Record) -> None:
        name = record.spec.name
        present = self._watches.get(name)
        if present is not None and present.process == record.process:
            return
        self._unwatch(name)
        pidfd = open_pidfd(record.process)
        if pidfd is None:
            if not record.is_over:
                self._note_end(name, record.process)
            elif self._is_supervised:
                self._ended.put_nowait(name)
            return
        self._watches[name] = _Watch(record.process, pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_end, name)

    def _unwatch(self, name: str) -> None:
        watch = self._watches.pop(name, None)
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.pidfd)
            os.close(watch.pidfd)

    def _on_end(self, name: str) -> None:
        process = self._watches[name].process
        self._unwatch(name)
        self._note_end(name, process)

    def _note_end(self, name: str, process: Identity) -> None:
        if process not in self._exits:
            self._exits[process] = reap(process)
        log.warning("unit %s (pid %d) ended: %s", name, process.pid, self._exits[process])
        if self._is_supervised:
            self._ended.put_nowait(name)
        self._notify(name)

    async def _revive(self, name: str) -> None:
        """After an end that nobody asked for: note it, wait, and start again; one task for each unit."""
        try:
            await self._restart(name)
        except TimedOut as e:
            log.warning("unit %s: %s", name, e)  # somebody takes long to stop it; looked at again below
        except OSError as e:
            # Not even its lock can be had: a full disk, or no descriptors left. The other units need us all the more.
            log.warning("unit %s: %s", name, format_chain(e))
            await asyncio.sleep(_REFUSED_RETRY_S)
        finally:
            self._reviving.discard(name)
        record = find_record(self._dir, name)
        if record is not None and record.spec.restart == "always" and not record.process.is_alive:
            # It ended again while this task still had the name, so that event was dropped.
            self._ended.put_nowait(name)

    async def _restart(self, name: str) -> None:
        """All is read again under the lock after each wait: the unit may have been stopped or replaced by somebody."""
        while True:
            async with lock_unit(self._dir, name):
                record = find_record(self._dir, name)
                if record is None or record.process.is_alive:
                    return
                if not record.is_over:
                    record = msgspec.structs.replace(record, exit=self._exits.get(record.process, "unknown"), is_over=True)
                    if self._note_record(record):
                        self._exits.pop(record.process, None)
            if record.spec.restart == "never":
                return
            await asyncio.sleep(self._next_delay_s(record))
            async with lock_unit(self._dir, name) as lock_fd:
                current = find_record(self._dir, name)
                if current is None or current.process != record.process:
                    return
                try:
                    await self._start(record.spec, lock_fd, restarts=record.restarts + 1, exit=record.exit)
                except (UserError, UnitFailed, OSError) as e:
                    log.warning("unit %s is not restarted yet: %s", name, format_chain(e))
                    # The launcher may have left a record of its own process, which has ended.
                    self._note_record(msgspec.structs.replace(record, exit=str(e), restarts=record.restarts + 1))
                    continue
                finally:
                    self._notify(name)
                return

    def _note_record(self, record: Record) -> bool:
        """Write down what is only news; returns whether the disk took it. A unit is restarted with a full disk too."""
        try:
            save_record(self._dir, record)
        except OSError as e:
            log.warning("unit %s: its record is not up to date: %s", record.spec.name, format_chain(e))
            return False
        return True

    def _next_delay_s(self, record: Record) -> float:
        backoff = self._backoffs.setdefault(record.spec.name, Backoff(0.2, 30.0))
        if time.time() - record.started_at > _STEADY_S + backoff.max_s:
            backoff.reset()
        return backoff.next_s()

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_S)
            specs = [record.spec for record in list_records(self._dir)]
            paths = [spec.log_path for spec in specs]
            paths += [opened.path for spec in specs for opened in spec.descriptors if isinstance(opened, OpenFile) and opened.append]
            for path in (*paths, self.cloud.home / "logs" / "engine.log"):
                try:
                    await on_disk(logs.shorten, path)
                except OSError as e:
                    log.warning("log %s cannot be set aside: %s", path, format_chain(e))

    def _notify(self, name: str) -> None:
        for callback in self._subscribers:
            callback(name)
