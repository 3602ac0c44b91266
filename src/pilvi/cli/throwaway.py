"""A cloud that lives as long as one command: made, used, and removed whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.progress import Waiting

if TYPE_CHECKING:
    from pilvi.api import JsonObject
    from pilvi.host.cloud import Cloud
    from pilvi.lib.deadline import Deadline

__all__ = ["run_in_cloud"]

FOLDER = Path("/var/lib")
GRACE_S = 10.0  # for the command, after a signal


async def run_in_cloud(
    command: list[str], documents: list[JsonObject], network: Any, machines: Any, timeout_s: float, report: Path | None
) -> int:
    """Run the command in a cloud of its own; returns its exit code. Nothing of the cloud is left, whatever happens.

    `timeout_s` is for the cloud and the clusters of its manifests together, not for the command. `report` is written when something
    failed; that it cannot be written is told, and changes nothing else. Raises what keeps the cloud from coming up or from being
    removed, and click.Abort after a signal.
    """
    from pilvi.cli.cloud import ensure_engine, remove_cloud
    from pilvi.cli.kit import build_missing
    from pilvi.host.cloud import create_cloud
    from pilvi.lib.deadline import Deadline
    from pilvi.lib.files import remove_tree
    from pilvi.plane.doctor import require_host
    from pilvi.plane.platform import settle_version

    with Waiting() as waiting:
        await require_host(FOLDER)
        await build_missing(waiting)
        home = _make_home()
        cloud: Cloud | None = None
        code = 1
        try:
            with _ended_by_signals() as signals:
                cloud = create_cloud(home, network, machines)
                cloud = settle_version(cloud)
                deadline = Deadline(timeout_s)
                await ensure_engine(cloud, waiting, deadline.left_s)
                environment = await _prepare(cloud, waiting, documents, deadline)
                waiting.hide()
                code = await _execute(command, environment, signals)
                return code
        finally:
            with _without_signals():
                try:
                    if code != 0 and report is not None and cloud is not None:
                        await _report(report, home, waiting)
                finally:
                    if cloud is not None:
                        await remove_cloud(cloud, waiting)
                    else:
                        remove_tree(home)


async def _report(file: Path, home: Path, waiting: Waiting) -> None:
    """Write a report of what failed. What keeps it from being written must hide neither the failure nor its exit code."""
    from pilvi.cli.report import TIMEOUT_S, write
    from pilvi.errors import PilviError, format_chain

    waiting.show(f"{file} to be written")
    try:
        await write(file, home, TIMEOUT_S)
    except (PilviError, OSError) as e:
        waiting.line(f"  no report: {format_chain(e)}")
    else:
        waiting.line(f"  report: {file}")


def _make_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="pilvi-run-", dir=FOLDER))
    home.chmod(0o755)  # units have uids of their own and must reach their files
    return home


async def _prepare(cloud: Cloud, waiting: Waiting, documents: list[JsonObject], deadline: Deadline) -> dict[str, str]:
    """Apply the manifests, wait, and write the kubeconfig; returns the environment of the command."""
    from pilvi.cli import contexts, manifests
    from pilvi.cli.connection import get_platform, get_tenant, open_platform

    kubeconfig = cloud.home / "run.conf"
    contexts.merge(None, get_platform(cloud.home), path=kubeconfig)
    async with open_platform(cloud.home, waiting) as client:
        clusters = await manifests.apply(client, documents)
        await manifests.wait_clusters(client, clusters, waiting, deadline, cloud.home)
        for cluster in clusters:
            contexts.merge(None, await get_tenant(client, cluster), str(cluster), make_current=False, path=kubeconfig)
    return {"KUBECONFIG": str(kubeconfig), "PILVI_HOME": str(cloud.home)}


async def _execute(command: list[str], environment: dict[str, str], signals: list[int]) -> int:
    """Run the command on our terminal; returns its exit code, 128 + N when signal N ended it.

    It has a process group of its own, to which the signal that ends us is passed on; after the grace, or at a second signal, what is
    left of the group is killed.
    """
    from pilvi.errors import UserError

    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment}, process_group=0)
    except OSError as e:
        raise UserError(f"{command[0]} cannot be run: {e.strerror}", hint="everything after -- is the command") from None
    try:
        with _terminal_of(process.pid):
            code = await process.wait()
    except asyncio.CancelledError:
        _signal_group(process.pid, signals[-1] if signals else signal.SIGTERM)
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_S)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return code if code >= 0 else 128 - code


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


@contextmanager
def _terminal_of(group: int) -> Iterator[None]:
    """Give the terminal, if we have one, to a process group: others may not read from it, and Ctrl-C goes to the one that has it."""
    terminal = _find_terminal()
    if terminal is None:
        yield
        return
    ours = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # what a group without the terminal gets for taking it back
    try:
        with suppress(OSError):  # the command may be over already
            os.tcsetpgrp(terminal, group)
            os.killpg(group, signal.SIGCONT)  # it may have been stopped for reading too early
        yield
    finally:
        with suppress(OSError):
            os.tcsetpgrp(terminal, os.getpgrp())
        signal.signal(signal.SIGTTOU, ours)
        os.close(terminal)


def _find_terminal() -> int | None:
    """The terminal whose foreground we are in, or None."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    if os.tcgetpgrp(terminal) == os.getpgrp():
        return terminal
    os.close(terminal)
    return None


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP end the work like Ctrl-C does, with its clean-up. Yields the signals that have come."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        if task is not None:
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        yield received
    except asyncio.CancelledError:
        while task is not None and task.cancelling():
            task.uncancel()
        raise click.Abort from None
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def _without_signals() -> Iterator[None]:
    """What removes the cloud is not to be interrupted: nobody would come back for the rest."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
