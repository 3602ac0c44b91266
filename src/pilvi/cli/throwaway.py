"""A cloud that lives as long as one command: made, used, and removed whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.progress import Waiting

if TYPE_CHECKING:
    from pilvi.api import JsonObject
    from pilvi.host.cloud import Cloud

__all__ = ["run_in_cloud"]

FOLDER = Path("/var/lib")


async def run_in_cloud(
    command: list[str], documents: list[JsonObject], network: Any, machines: Any, timeout_s: float, report: Path | None
) -> int:
    """Run the command in a cloud of its own; returns its exit code. Nothing of the cloud is left, whatever happens.

    Raises what keeps the cloud from coming up or from being removed, and click.Abort after a signal.
    """
    from pilvi.cli.cloud import ensure_engine, remove_cloud
    from pilvi.cli.kit import build_missing
    from pilvi.cli.report import write
    from pilvi.host.cloud import create_cloud
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
            with _ended_by_signals():
                cloud = create_cloud(home, network, machines)
                cloud = settle_version(cloud)
                await ensure_engine(cloud, waiting, timeout_s)
                environment = await _prepare(cloud, waiting, documents, timeout_s)
                waiting.hide()
                code = await _execute(command, environment)
                return code
        finally:
            with _without_signals():
                if code != 0 and report is not None and cloud is not None:
                    waiting.show(f"{report} to be written")
                    await write(report, home)
                    waiting.line(f"  report: {report}")
                if cloud is not None:
                    await remove_cloud(cloud, waiting)
                else:
                    remove_tree(home)


def _make_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="pilvi-run-", dir=FOLDER))
    home.chmod(0o755)  # units have uids of their own and must reach their files
    return home


async def _prepare(cloud: Cloud, waiting: Waiting, documents: list[JsonObject], timeout_s: float) -> dict[str, str]:
    """Apply the manifests, wait, and write the kubeconfig; returns the environment of the command."""
    from pilvi.cli import contexts, manifests
    from pilvi.cli.connection import get_platform, get_tenant, open_platform

    kubeconfig = cloud.home / "run.conf"
    contexts.merge(None, get_platform(cloud.home), path=kubeconfig)
    async with open_platform(cloud.home) as client:
        clusters = await manifests.apply(client, documents)
        await manifests.wait_clusters(client, clusters, waiting, timeout_s, cloud.home)
        for cluster in clusters:
            contexts.merge(None, await get_tenant(client, cluster), str(cluster), make_current=False, path=kubeconfig)
    return {"KUBECONFIG": str(kubeconfig), "PILVI_HOME": str(cloud.home)}


async def _execute(command: list[str], environment: dict[str, str]) -> int:
    """Run the command on our terminal; returns its exit code, 128 + N when signal N ended it. It ends with us."""
    from pilvi.errors import UserError

    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    except OSError as e:
        raise UserError(f"{command[0]} cannot be run: {e.strerror}", hint="everything after -- is the command") from e
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.terminate()
        await asyncio.shield(process.wait())
        raise
    return code if code >= 0 else 128 - code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the work like Ctrl-C does, with its clean-up."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    try:
        yield
    except asyncio.CancelledError:
        if task is not None:
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
