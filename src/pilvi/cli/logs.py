"""`pilvi logs`: what a unit wrote, and what the programs inside a machine wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import click

from pilvi.cli.options import cloud_option, namespace_option, no_cloud, parse_name, run_async, timeout_option
from pilvi.cli.progress import Waiting

if TYPE_CHECKING:
    from pilvi.api import Key
    from pilvi.host.cloud import Cloud

Opener: TypeAlias = Callable[[], BinaryIO]

_POLL_S = 0.2
_CONSOLE = "console"
_INSIDE = ("first-boot", "containerd", "kubelet")  # as the machine's init calls them, in its /var/log


@click.command()
@click.argument("unit", metavar="[UNIT|[NAMESPACE/]MACHINE|COMPONENT]", required=False)
@click.option("--cluster", metavar="[NAMESPACE/]NAME", help="Of a COMPONENT of this cluster; without one of all that it has.")
@click.option("--of", type=click.Choice([_CONSOLE, *_INSIDE]), help="Which log of a machine.  [default: console]")
@click.option("-f", "--follow", is_flag=True, help="Go on as the unit writes, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@namespace_option
@timeout_option(20, "How long to wait at most for the API, which knows machines and clusters by name.")
@cloud_option
def logs(
    unit: str | None,
    cluster: str | None,
    of: str | None,
    follow: bool,
    tail: int | None,
    namespace: str | None,
    timeout_s: float,
    home: Path,
) -> None:
    """Show the log of a unit or of a machine; `engine` is the engine. `pilvi status -o json` names all units and machines.

    A machine has four: its console (what its init says, with the end of a first boot that failed), its first boot, containerd and the
    kubelet.

    \b
    Example:
      sudo pilvi logs plane-kube-apiserver --tail 20
      sudo pilvi logs engine -f
      sudo pilvi logs team-a/first-workers-x7k2p --of kubelet
      sudo pilvi logs --cluster team-a/first kube-apiserver
    """
    if cluster is not None:
        names = run_async(_find_units_of(home, parse_name(cluster, namespace), unit, timeout_s))
    elif unit is not None:
        names = [unit]
    else:
        raise click.UsageError("name a unit or a machine, or a cluster with --cluster")
    if follow and len(names) > 1:
        raise click.UsageError(f"only one log can be followed; name one of: {', '.join(names)}")
    for name in names:
        open_log = _find_log(home, name, namespace if cluster is None else None, of, timeout_s)
        if len(names) > 1:
            click.echo(f"==> {name} <==")
            sys.stdout.flush()
        with open_log() as log:
            _print_tail(log, tail)
            if follow:
                with contextlib.suppress(KeyboardInterrupt):
                    _follow(open_log, log)


async def _find_units_of(home: Path, key: Key, component: str | None, timeout_s: float) -> list[str]:
    """Names of the units of a cluster, or of the one that is, or ends with, `component`. Raises UserError, TimedOut."""
    from pilvi.cli.cluster.units import read_cluster, units_of
    from pilvi.cli.connection import find_units
    from pilvi.errors import UserError, WrongUse

    units = find_units(home)
    if not units:
        raise UserError("there is no unit that you may see", hint="sudo pilvi logs shows them while the cloud is on this host")
    world, cluster = await read_cluster(home, key, timeout_s)
    names = [unit.name for unit in units_of(world, cluster, units)]
    chosen = [name for name in names if component is None or name == component or name.endswith(f"-{component}")]
    if not chosen:
        raise WrongUse(f"cluster {key} has no unit {component or 'at all'}", hint=f"one of: {', '.join(names)}" if names else None)
    return chosen


def _find_log(home: Path, unit: str, namespace: str | None, of: str | None, timeout_s: float) -> Opener:
    """What opens the log. Raises UserError naming the units that have one, UsageError for what nothing can be called."""
    from pilvi.errors import UserError
    from pilvi.host.cloud import find_cloud

    cloud = find_cloud(home)
    if cloud is None:
        raise no_cloud(home)
    if not os.access(cloud.units_dir, os.R_OK | os.X_OK) and os.geteuid() != 0:
        raise UserError("logs of units belong to root", hint=f"sudo pilvi logs {unit}")
    key = parse_name(unit, namespace)
    machines = _find_machines(cloud)
    if unit not in machines:
        unit = next((known for known in machines if unit == f"{known}b"), unit)  # a machine in its second slot (docs/design/0005)
    path = None if "/" in unit or unit in machines else _find_unit_log(cloud, unit)
    if path is not None:
        if of is not None:
            raise click.UsageError(f"unit {unit} has one log; --of chooses among those of a machine")
        return lambda: path.open("rb")
    folder = machines.get(unit) or run_async(_find_machine(cloud, key, timeout_s))
    if folder is None:
        known = sorted([*machines, *(log.stem for log in _logs_folder(cloud).glob("*.log"))])
        hint = f"one of: {', '.join(known)}; or a machine's name as `pilvi status` has it" if known else "sudo pilvi up"
        raise UserError(f"there is no unit and no machine {unit} with a log in {home}", hint=hint)
    return _machine_log(folder, of or _CONSOLE)


def _find_unit_log(cloud: Cloud, unit: str) -> Path | None:
    from pilvi.host.units.record import find_record

    record = find_record(cloud.units_dir, unit)
    path = record.spec.log_path if record else _logs_folder(cloud) / f"{unit}.log"
    return path if path.exists() else None


def _logs_folder(cloud: Cloud) -> Path:
    return cloud.home / "logs"


def _find_machines(cloud: Cloud) -> dict[str, Path]:
    """The folders of all machines that have one, by the name of their unit."""
    from pilvi.lib.hashing import short_hash

    return {f"m-{short_hash(path.name)}": path for path in (cloud.home / "machines").glob("[!.]*")}


async def _find_machine(cloud: Cloud, key: Key, timeout_s: float) -> Path | None:
    """The folder of the machine that the API knows by this name; None when it knows none, or there is no API to ask.

    Raises UserError when the API does not answer, TimedOut.
    """
    from pilvi.api.kubevirt import VirtualMachineInstance
    from pilvi.cli.connection import find_platform, open_platform
    from pilvi.errors import ApiUnreachable, UserError

    if find_platform(cloud.home) is None:
        return None
    with Waiting() as waiting:
        async with open_platform(cloud.home, waiting, timeout_s) as client:
            try:
                machine = await client.find(VirtualMachineInstance.RESOURCE, key)
            except ApiUnreachable as e:
                units = ", ".join(sorted(_find_machines(cloud)))
                raise UserError(
                    f"no unit is called {key.name}, and the API, which knows machines by name, does not answer",
                    hint=f"name the machine by its unit: {units}" if units else "sudo pilvi up",
                ) from e
    return None if machine is None else cloud.home / "machines" / machine["metadata"]["uid"]


def _machine_log(folder: Path, of: str) -> Opener:
    """What opens a log of the machine. The guest may have put anything in the place of its own: links are not followed.

    Raises UserError when there is none yet.
    """
    from pilvi.errors import UserError
    from pilvi.lib.files import open_below

    if (folder / "disks").is_dir() and of != _CONSOLE:
        raise UserError(
            f"the log of {of} is inside a virtual machine, out of the host's reach",
            hint="look at its console (--of console), or log in: `pilvi vm console`",
        )
    console = Path("serial.log" if (folder / "disks").is_dir() else "state/console.log")
    inside = console if of == _CONSOLE else Path(f"state/layer/var/log/{of}.log")

    def open_log() -> BinaryIO:
        return open_below(folder, inside)

    try:
        open_log().close()
    except OSError as e:
        raise UserError(
            f"the machine has no log of {of}: {e.strerror}", hint="look at its console, which says how far it came (--of console)"
        ) from e
    return open_log


def _print_tail(log: BinaryIO, lines: int | None) -> None:
    """Print all of the file, or its last lines; leaves it at its end."""
    if lines is None:
        shutil.copyfileobj(log, sys.stdout.buffer)
    else:
        sys.stdout.buffer.writelines(deque(log, maxlen=lines))  # logs are 10 MiB at most
    sys.stdout.buffer.flush()


def _follow(open_log: Opener, log: BinaryIO) -> None:
    """Print what is added, for ever. A log that was shortened goes on at its new beginning; one that was put aside, with the new file."""
    with contextlib.ExitStack() as opened:
        while True:
            with contextlib.suppress(OSError):  # between the old log and the new one there is none
                fresh = open_log()
                if os.path.sameopenfile(fresh.fileno(), log.fileno()):
                    fresh.close()
                    if os.fstat(log.fileno()).st_size < log.tell():
                        log.seek(0)
                else:
                    shutil.copyfileobj(log, sys.stdout.buffer)
                    log = opened.enter_context(fresh)
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            time.sleep(_POLL_S)
