"""`pilvi up`: from a bare machine, or from whatever is there, to a cloud that is ready."""

import asyncio
import fcntl
import os
from ipaddress import IPv4Network
from pathlib import Path

import click

from pilvi.cli.options import home_option, require_root, run_async, timeout_option
from pilvi.cli.progress import Waiting
from pilvi.errors import TimedOut, UserError
from pilvi.host.cloud import Cloud, Machines

POLL_S = 0.1


@click.command()
@home_option
@timeout_option(300)
@click.option(
    "-f", "--filename", "files", multiple=True, type=click.Path(path_type=Path, exists=True), help="Manifests to apply; - reads stdin."
)
@click.option("--range", "cidr", help="Address range of the cloud, /18 to /28. Default: the first free /24 of 10.250.0.0/16.")
@click.option("--machines", type=click.Choice(["auto", "qemu", "sandbox"]), help="Backend for machines that name none. Default: auto.")
@click.option("--foreground", is_flag=True, help="Run the engine in this process, for containers.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the clusters of the applied manifests are ready.")
def up(
    home: Path, timeout_s: float, files: tuple[Path, ...], cidr: str | None, machines: Machines | None, foreground: bool, no_wait: bool
) -> None:
    """Start the cloud, or bring it up to date, and apply manifests. Safe to repeat.

    \b
    Example:
      sudo pilvi up -f examples/first-cluster.yaml
    """
    require_root("up")
    run_async(_up(home.absolute(), timeout_s, files, cidr, machines, foreground, no_wait))


async def _up(
    home: Path, timeout_s: float, files: tuple[Path, ...], cidr: str | None, machines: Machines | None, foreground: bool, no_wait: bool
) -> None:
    from pilvi.cli import contexts, manifests
    from pilvi.host.cloud import find_cloud
    from pilvi.host.registry import create_cloud
    from pilvi.plane.doctor import require_host

    network = _parse_range(cidr)
    documents = manifests.read(files)
    await require_host(home)
    with Waiting() as waiting:
        await _ensure_kit(waiting)
        lock = _lock_home(home)
        try:
            cloud = find_cloud(home)
            if cloud is None:
                cloud = create_cloud(home, range=network, machines=machines or "auto")
            else:
                _check_same(cloud, network, machines)
            if foreground:
                _become_engine(cloud)
            await _ensure_engine(cloud, waiting, timeout_s)
        finally:
            os.close(lock)
        contexts.merge_platform(cloud)
        if documents:
            await manifests.apply_and_wait(cloud, documents, waiting, timeout_s, wait=not no_wait)
    await manifests.print_what_exists(cloud)


def _parse_range(cidr: str | None) -> IPv4Network | None:
    try:
        return IPv4Network(cidr) if cidr else None
    except ValueError as e:
        raise click.BadParameter(f"{cidr!r} is not an IPv4 network: {e}", param_hint="--range") from e


def _check_same(cloud: Cloud, network: IPv4Network | None, machines: Machines | None) -> None:
    """What a cloud was made with stays: its objects hold addresses of its range."""
    for option, wanted, present in (("--range", network, cloud.range), ("--machines", machines, cloud.machines)):
        if wanted is not None and wanted != present:
            raise UserError(
                f"the cloud in {cloud.home} has {option} {present}, which cannot be changed to {wanted}",
                hint="leave the option out, or make another cloud with another --home",
            )


def _lock_home(home: Path) -> int:
    """Hold the home against a second `pilvi up`; returns the descriptor of the lock."""
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(lock)
        raise UserError(f"another `pilvi up` works on {home} at this moment", hint="wait until it has ended, then try again") from e
    return lock


async def _ensure_kit(waiting: Waiting) -> None:
    from pilvi.cli.kit import build_missing

    await build_missing(waiting)


async def _ensure_engine(cloud: Cloud, waiting: Waiting, timeout_s: float) -> None:
    """Start the engine unless it runs, replace one of another version, and follow its report until the cloud is ready."""
    from pilvi import __version__
    from pilvi.engine.process import find_engine, start_engine, stop_engine
    from pilvi.plane.progress import find_report, progress_file

    engine = find_engine(cloud)
    if engine is not None and engine.version != __version__:
        waiting.line(f"  engine of pilvi {engine.version} is replaced by {__version__}; machines and clusters run on")
        await stop_engine(cloud)
        engine = None
    if engine is None:
        progress_file(cloud).unlink(missing_ok=True)
        await start_engine(cloud)
    deadline = asyncio.get_running_loop().time() + timeout_s
    shown = 0
    while True:
        report = find_report(cloud)
        steps = report.steps if report else ()
        done = [step for step in steps if step.ended_at is not None]
        for step in done[shown:]:
            waiting.done(step.text, (step.ended_at or 0) - step.started_at)
        shown = len(done)
        if report is not None and report.state == "failed":
            raise UserError(f"the cloud could not start: {report.error}", hint=report.hint or f"see {cloud.home}/logs/engine.log")
        if report is not None and report.state == "ready":
            return
        pending = [step.text for step in steps if step.ended_at is None]
        waiting.show(pending[0] if pending else "the engine to start")
        if asyncio.get_running_loop().time() > deadline:
            raise TimedOut(f"the cloud to be ready ({', '.join(pending) or 'engine'})", timeout_s)
        await asyncio.sleep(POLL_S)


def _become_engine(cloud: Cloud) -> None:
    """Replace this process by the engine; does not return."""
    from pilvi.engine.process import engine_argv

    argv = engine_argv(cloud)
    os.execv(argv[0], argv)  # noqa: S606 (our own interpreter)
