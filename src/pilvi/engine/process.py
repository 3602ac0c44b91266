"""The engine as a process: found, started, stopped.

Where systemd runs it is a service; elsewhere it runs in a session of its own under a minimal parent that starts it again when it
dies (`respawn`). A lock on a file makes sure that a cloud has one engine only.
"""

import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

import msgspec

from pilvi import __version__
from pilvi.engine import service
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.units.identity import Identity, read_identity
from pilvi.lib.deadline import wait_for
from pilvi.lib.files import write_atomic

STOP_TIMEOUT_S = 30.0
# What a burst of work has freed goes back to the host. By itself glibc raises the size from which it does so with the first buffer of TLS
# (128 KiB) that is freed, and has a heap for each thread.
MALLOC = ("MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=65536", "MALLOC_TRIM_THRESHOLD_=131072")
EXIT_HOPELESS = 78
"""Exit code of an engine that a person has to help; nobody starts it again."""


class EngineRecord(msgspec.Struct, frozen=True):
    """Which process is the engine, and of which pilvi."""

    process: Identity
    version: str


def find_engine(cloud: Cloud) -> EngineRecord | None:
    """The running engine of this cloud, or None; needs no rights."""
    record = _read(_record_path(cloud))
    return record if record is not None and record.process.is_alive else None


def is_attended(engine: EngineRecord) -> bool:
    """Whether somebody would start this engine again, or ends with it: systemd, its parent, or `pilvi up --foreground`.

    A process whose parent has died is the child of the first process, which may be such a command in a container.
    """
    if service.is_available():
        return True
    try:
        parent = int(Path(f"/proc/{engine.process.pid}/stat").read_text().rpartition(")")[2].split()[1])
        return parent != 1 or b"--foreground" in Path("/proc/1/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def claim_engine(cloud: Cloud) -> int:
    """Become the engine of this cloud; returns the descriptor of the lock, held for as long as the process lives.

    Raises UserError when another process is the engine.
    """
    cloud.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(cloud.run / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(lock)
        raise UserError(f"cloud {cloud.id} has an engine already", hint="see `pilvi status`; `pilvi down` stops it") from e
    identity = read_identity(os.getpid())
    if identity is None:
        raise UserError("/proc does not show this process", hint="mount /proc")
    write_atomic(_record_path(cloud), msgspec.json.encode(EngineRecord(identity, __version__)), mode=0o644)
    return lock


async def start_engine(cloud: Cloud) -> None:
    """Start the engine in the background; the engine tells its progress by itself (`plane.progress`). Raises DriverError, TimedOut."""
    if service.is_available():
        await service.install(cloud, engine_argv(cloud))
        return
    # A parent that waits before it starts a dead engine again would make a second one beside ours.
    await stop_engine(cloud)
    log = cloud.home / "logs" / "engine.log"
    log.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    cloud.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("respawn.py")),
            str(_parent_path(cloud)),
            str(EXIT_HOPELESS),
            *engine_argv(cloud),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(output)


async def stop_engine(cloud: Cloud) -> None:
    """Stop the engine and its parent and wait until both are gone; units live on. May be called repeatedly.

    Raises TimedOut when they do not end.
    """
    if service.is_available():
        await service.remove(cloud)
    parent, engine = _read(_parent_path(cloud)), find_engine(cloud)
    processes = [record.process for record in (parent, engine) if record is not None]
    for process in processes:
        if process.is_alive:
            os.kill(process.pid, signal.SIGTERM)
    await wait_for(lambda: not any(process.is_alive for process in processes), STOP_TIMEOUT_S, "the engine to stop")
    parent_path = _parent_path(cloud)
    # What a parent that was killed has left of its record goes too.
    for path in (parent_path, parent_path.with_name(f".{parent_path.name}.new"), _record_path(cloud)):
        path.unlink(missing_ok=True)


def engine_argv(cloud: Cloud) -> list[str]:
    """The command that is the engine of this cloud."""
    return ["/usr/bin/env", *MALLOC, sys.executable, "-m", "pilvi.engine", "--home", str(cloud.home)]


def _record_path(cloud: Cloud) -> Path:
    return cloud.run / "engine.json"


def _parent_path(cloud: Cloud) -> Path:
    return cloud.run / "engine-parent.json"


def _read(path: Path) -> EngineRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    except FileNotFoundError:
        return None
