"""Starts the process of a unit, watches it through a pidfd, and ends it with all that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec

from pilvi.errors import TimedOut, UnitFailed, UserError
from pilvi.host import codec
from pilvi.host.cgroups import Cgroups
from pilvi.host.netns import has_netns, netns_path
from pilvi.host.units import logs
from pilvi.host.units.identity import Identity
from pilvi.host.units.launch import LOCK_FD, REPORT_FD
from pilvi.host.units.record import find_record, record_path
from pilvi.host.units.spec import OpenFile, OpenTap, UnitSpec
from pilvi.lib.deadline import wait_for
from pilvi.lib.run import SAFE_PATH

__all__ = ["clear_group", "end_process", "launch", "open_pidfd", "reap", "wait_ended"]

_LAUNCH_TIMEOUT_S = 30.0
_KILL_TIMEOUT_S = 20.0
_POLL_S = 0.02
_REAP_S = 0.2


async def launch(
    spec: UnitSpec, units_dir: Path, cgroups: Cgroups, group: str, lock_fd: int, *, restarts: int = 0, exit: str | None = None
) -> None:
    """Start the process of a unit; returns when the program runs, its record is then in place.

    `restarts` and `exit` (how the process before it ended) go into the record.
    Raises UserError when there is no such program, UnitFailed when the launcher could not do its work in time: then no process
    is left.
    """
    program = shutil.which(spec.argv[0], path=spec.env.get("PATH", SAFE_PATH))
    if program is None:
        raise UserError(f"unit {spec.name}: {spec.argv[0]} is not a program that can be run", hint="see `pilvi doctor`")
    if spec.netns is not None and not has_netns(spec.netns):
        raise UnitFailed(spec.name, f"cannot start: there is no network namespace {spec.netns}")
    logs.rotate(spec.log_path)
    cgroups.create(group, spec.cgroup)
    record = {
        "spec": msgspec.json.decode(codec.encode(spec)),
        "digest": spec.digest,
        "started_at": time.time(),
        "restarts": restarts,
        "exit": exit,
    }
    document = {
        "cgroups": [str(path) for path in cgroups.entries(group)],
        "netns": str(netns_path(spec.netns)) if spec.netns else None,
        "descriptors": [_describe(descriptor) for descriptor in spec.descriptors],
        "hollow_capabilities": list(spec.hollow_capabilities),
        "record_path": str(record_path(units_dir, spec.name)),
        "record": record,
        "log_path": str(spec.log_path),
        "nofile": spec.nofile,
        "uid": spec.uid,
        "gid": spec.gid,
        "cwd": str(spec.cwd),
        "argv": [program, *spec.argv[1:]],
        "env": spec.env,
    }
    pid, report = _spawn(msgspec.json.encode(document), lock_fd)
    try:
        text = await _read_all(report)
    except TimeoutError as e:
        # It must not become the program later, when nobody reckons with it any more.
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimedOut):
            await wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0], _KILL_TIMEOUT_S, "the end of a launcher", interval_s=_POLL_S)
        raise UnitFailed(spec.name, f"did not begin within {_LAUNCH_TIMEOUT_S:g} s") from e
    started = find_record(units_dir, spec.name)
    if text or started is None or started.process.pid != pid:
        # Without the program it exits right after closing its end of the pipe.
        os.waitpid(pid, 0)  # noqa: ASYNC222
        raise UnitFailed(spec.name, f"cannot start: {text or 'its launcher was killed'}", logs.tail(spec.log_path))


def _describe(descriptor: OpenFile | OpenTap) -> dict[str, object]:
    """A descriptor in the launcher's words."""
    if isinstance(descriptor, OpenFile):
        return {"path": str(descriptor.path), "writable": descriptor.writable, "append": descriptor.append}
    return {"tap": descriptor.name, "netns": str(netns_path(descriptor.netns)) if descriptor.netns else None}


def _spawn(document: bytes, lock_fd: int) -> tuple[int, int]:
    """The launcher's pid and the descriptor that its report comes from. posix_spawn does not copy the engine's page tables."""
    source = os.memfd_create("unit")
    report, report_inside = os.pipe2(os.O_CLOEXEC)
    # High copies: a descriptor that happens to be 3 or 4 would be overwritten by the other one's dup2.
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOCK_FD + 1) for descriptor in (source, report_inside, lock_fd)]
    try:
        os.write(source, document)
        os.lseek(source, 0, os.SEEK_SET)
        targets = zip(high, (0, REPORT_FD, LOCK_FD), strict=True)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))],
            {"LC_ALL": "C.UTF-8"},
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, target) for descriptor, target in targets],
            setsid=True,
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        for descriptor in (source, report_inside, *high):
            os.close(descriptor)
    return pid, report


async def _read_all(descriptor: int) -> str:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        async with asyncio.timeout(_LAUNCH_TIMEOUT_S):
            return (await reader.read()).decode("utf-8", "replace")
    finally:
        transport.close()


def open_pidfd(process: Identity) -> int | None:
    """A descriptor that becomes readable when that process ends; None when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # Asked after opening: between reading the record and opening, the pid may have gone to another process.
    if process.is_alive:
        return descriptor
    os.close(descriptor)
    return None


def reap(process: Identity) -> str:
    """How an ended process ended, and the end of its zombie when it is a child of ours. `unknown` when it is not.

    A process of many threads is seen to end a moment before it can be reaped; that moment is waited for (milliseconds, 0.2 s at most).
    """
    deadline = time.monotonic() + _REAP_S
    try:
        while (result := os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG)) is None and time.monotonic() < deadline:
            time.sleep(0.001)
    except ChildProcessError:
        return "unknown"
    if result is None:
        return "unknown"
    if result.si_code == os.CLD_EXITED:
        return f"exit code {result.si_status}"
    return f"signal {signal.Signals(result.si_status).name}"


async def wait_ended(pidfd: int, timeout_s: float) -> bool:
    """Whether the process behind `pidfd` has ended within that time."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    # A copy, because the loop takes one reader for a descriptor, and the supervision has the other.
    copy = os.dup(pidfd)
    loop.add_reader(copy, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return bool(select.select([copy], [], [], 0)[0])
    finally:
        loop.remove_reader(copy)
        os.close(copy)
    return True


async def end_process(name: str, process: Identity, cgroups: Cgroups, group: str, *, stop_signal: int, grace_s: float) -> None:
    """Ask the process to end, give it `grace_s` seconds, kill what is left in its group, and remove the group.

    Raises UnitFailed when something cannot even be killed (it hangs in the kernel).
    """
    pidfd = open_pidfd(process)
    if pidfd is not None:
        try:
            signal.pidfd_send_signal(pidfd, stop_signal)
            await wait_ended(pidfd, grace_s)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    await clear_group(name, cgroups, group)


async def clear_group(name: str, cgroups: Cgroups, group: str) -> None:
    """Kill everything in the group, wait for its end and remove the group. Raises UnitFailed when a process does not end."""

    def is_cleared() -> bool:
        if cgroups.procs(group):
            cgroups.kill(group)
            return False
        return _remove_group(cgroups, group)

    try:
        await wait_for(is_cleared, _KILL_TIMEOUT_S, "the end of its processes", interval_s=_POLL_S)
    except TimedOut as e:
        left = ", ".join(map(str, sorted(cgroups.procs(group)))) or "none to be seen"
        raise UnitFailed(name, f"has processes that cannot be killed ({left})") from e


def _remove_group(cgroups: Cgroups, group: str) -> bool:
    try:
        cgroups.remove(group)
    except OSError as e:
        # A process that has just ended may still count for a moment.
        if e.errno != errno.EBUSY:
            raise
        return False
    return True
