"""`pilvi up`: from a bare machine, or from whatever is there, to a cloud that is ready."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.options import files_option, home_option, name_home, require_root, run_async, timeout_option
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from pilvi.api import JsonObject, Key
    from pilvi.host.cloud import Cloud
    from pilvi.kube import Client
    from pilvi.lib.deadline import Deadline


@click.command()
@files_option
@home_option
@click.option("--range", "cidr", metavar="CIDR", help="Address range of the cloud, /18 to /28. Default: a free /24 of 10.250.0.0/16.")
@click.option("--machines", type=click.Choice(["auto", "qemu", "sandbox"]), help="What runs machines that name nothing. Default: auto.")
@click.option("--hosts", type=click.IntRange(1, 16), help="How many virtual hosts share this machine. Default: 1.")
@click.option("--foreground", is_flag=True, help="Run the engine as a child of this command, for containers.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the clusters of the applied manifests are ready.")
@timeout_option(600, "How long to wait at most for the cloud and its clusters together. Building the kit does not count.")
def up(
    files: tuple[Path, ...],
    home: Path,
    cidr: str | None,
    machines: Any,
    hosts: int | None,
    foreground: bool,
    no_wait: bool,
    timeout_s: float,
) -> None:
    """Start the cloud, or bring it up to date, and apply manifests. Safe to repeat.

    \b
    Example:
      sudo pilvi up -f examples/first-cluster.yaml
    """
    from pilvi.cli import manifests

    require_root("up")
    network = parse_range(cidr)
    code = run_async(_up(home, network, machines, hosts, manifests.read(files), timeout_s, foreground, wait=not no_wait))
    click.get_current_context().exit(code)


async def _up(
    home: Path,
    network: IPv4Network | None,
    machines: Any,
    hosts: int | None,
    documents: list[JsonObject],
    timeout_s: float,
    foreground: bool,
    *,
    wait: bool,
) -> int:
    from pilvi.cli.cloud import ensure_engine, hold_home
    from pilvi.cli.kit import build_missing
    from pilvi.host.cloud import check_range, check_same_range, create_cloud, find_cloud
    from pilvi.lib.deadline import Deadline
    from pilvi.plane.doctor import require_host
    from pilvi.plane.platform import settle_version

    with Waiting() as waiting, contextlib.ExitStack() as held:
        held.enter_context(hold_home(home))
        before = find_cloud(home)
        if network is not None:  # asked now, not after ten minutes of building
            check_range(network)
            if before is not None:
                check_same_range(before, network)
        await require_host(home)
        await build_missing(waiting)
        cloud = settle_version(create_cloud(home, network, machines, hosts))
        if before is not None and before.kubernetes not in {"", cloud.kubernetes}:
            waiting.line(f"  the platform is upgraded from Kubernetes {before.kubernetes} to {cloud.kubernetes}; clusters stay as they are")
        deadline = Deadline(timeout_s)

        async def finish() -> None:
            held.close()  # the engine is up: what follows only talks to its API, and must not keep `pilvi down` off
            await _finish(cloud, waiting, documents, deadline, wait=wait)

        if foreground:
            return await _run_foreground(cloud, waiting, deadline, finish)
        await ensure_engine(cloud, waiting, deadline.left_s, restart=before is not None and before != cloud)
        await finish()
    return 0


async def _finish(cloud: Cloud, waiting: Waiting, documents: list[JsonObject], deadline: Deadline, *, wait: bool) -> None:
    """Contexts, manifests, and what to type next. The user can reach the platform whatever becomes of the manifests."""
    from pilvi.cli import contexts, manifests
    from pilvi.cli.connection import get_platform, open_platform

    context = contexts.merge(cloud, get_platform(cloud.home))
    async with open_platform(cloud.home, waiting) as client:
        clusters = await manifests.apply(client, documents)
        try:
            if wait:
                await manifests.wait_clusters(client, clusters, waiting, deadline, cloud.home)
        finally:
            await _merge_clusters(client, cloud, clusters)
    await _print_summary(cloud, context)


async def _merge_clusters(client: Client, cloud: Cloud, clusters: Sequence[Key]) -> None:
    """A context for every cluster that has a kubeconfig by now: some may be far from ready, or the wait for them has failed."""
    from pilvi.cli import contexts
    from pilvi.cli.connection import get_tenant
    from pilvi.errors import ApiError, ApiUnreachable, UserError

    for cluster in clusters:
        try:
            kubeconfig = await get_tenant(client, cluster)
        except (UserError, ApiError, ApiUnreachable):
            continue
        contexts.merge(cloud, kubeconfig, str(cluster), make_current=False)


async def _run_foreground(cloud: Cloud, waiting: Waiting, deadline: Deadline, finish: Callable[[], Awaitable[None]]) -> int:
    """The engine as a child: signals go on to it, its exit code is ours, and its end ends this command. `finish` is run when it is up."""
    import asyncio
    import signal

    from pilvi.cli.cloud import follow_engine
    from pilvi.engine.process import engine_argv, find_engine
    from pilvi.errors import UserError
    from pilvi.plane.progress import progress_file

    if find_engine(cloud) is not None:
        raise UserError(f"cloud {cloud.id} has an engine already", hint="pilvi down, then pilvi up --foreground")
    progress_file(cloud).unlink(missing_ok=True)
    engine = await asyncio.create_subprocess_exec(*engine_argv(cloud))
    loop = asyncio.get_running_loop()

    def end() -> None:
        if engine.returncode is None:
            engine.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await follow_engine(cloud, waiting, deadline.left_s, lambda: engine.returncode is not None)
        await finish()
    except BaseException:
        end()
        await engine.wait()
        raise
    return await engine.wait()


async def _print_summary(cloud: Cloud, context: str) -> None:
    """What exists now and what to type next."""
    from pilvi.cli.connection import get_platform, parse, read_engine
    from pilvi.cli.status import print_status
    from pilvi.plane.status import read_status

    status = await read_status(cloud, read_engine(cloud), parse(get_platform(cloud.home)))
    click.echo("")
    print_status(status)
    click.echo("")
    click.echo(f"The current context of your kubeconfig is {context}. Next:")
    home = name_home(cloud.home)
    following = [f"pilvi cluster create{home} first --workers 2"]
    if status.clusters:
        first = status.clusters[0]
        name = first.name if first.namespace == "default" else f"{first.namespace}/{first.name}"
        following = [f"pilvi kubectl{home} --cluster {name} -- get nodes,pods -A", f"pilvi cluster scale{home} {name} --workers 3"]
    for command in (*following, f"pilvi status{home}"):
        click.echo(f"  {as_typed(command)}")


def parse_range(cidr: str | None) -> IPv4Network | None:
    """The network that a person typed. Raises BadParameter."""
    from ipaddress import IPv4Network

    try:
        return IPv4Network(cidr) if cidr else None
    except ValueError as e:
        raise click.BadParameter(f"{cidr!r} is not an IPv4 network: {e}", param_hint="--range") from e
