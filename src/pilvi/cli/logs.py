"""`pilvi logs`: what a unit wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

import click

from pilvi.cli.options import home_option

_POLL_S = 0.2


@click.command()
@click.argument("unit")
@click.option("-f", "--follow", is_flag=True, help="Go on as the unit writes, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
@home_option
def logs(unit: str, follow: bool, tail: int | None, home: Path) -> None:
    """Show the log of a unit; `engine` is the engine. `pilvi status -o json` names all units.

    \b
    Example:
      sudo pilvi logs plane-kube-apiserver --tail 20
      sudo pilvi logs engine -f
    """
    path = _find_log(home, unit)
    with path.open("rb") as log:
        _print_tail(log, tail)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                _follow(path, log)


def _find_log(home: Path, unit: str) -> Path:
    """The log file of a unit. Raises UserError naming the units that have one."""
    from pilvi.errors import UserError
    from pilvi.host.cloud import get_cloud
    from pilvi.host.units.record import find_record

    cloud = get_cloud(home)
    folder = home / "logs"
    if not os.access(cloud.units_dir, os.R_OK | os.X_OK) and os.geteuid() != 0:
        raise UserError("logs of units belong to root", hint=f"sudo pilvi logs {unit}")
    record = find_record(cloud.units_dir, unit) if "/" not in unit else None
    path = record.spec.log_path if record else folder / f"{unit}.log"
    if "/" in unit or not path.exists():
        known = sorted(log.stem for log in folder.glob("*.log"))
        raise UserError(f"there is no unit {unit} with a log in {home}", hint=f"one of: {', '.join(known)}" if known else "sudo pilvi up")
    return path


def _print_tail(log: BinaryIO, lines: int | None) -> None:
    """Print all of the file, or its last lines; leaves it at its end."""
    if lines is None:
        shutil.copyfileobj(log, sys.stdout.buffer)
    else:
        sys.stdout.buffer.writelines(deque(log, maxlen=lines))  # logs are 10 MiB at most
    sys.stdout.buffer.flush()


def _follow(path: Path, log: BinaryIO) -> None:
    """Print what is added, for ever. A log that was shortened goes on at its new beginning; one that was put aside, with the new file."""
    with contextlib.ExitStack() as opened:
        while True:
            with contextlib.suppress(FileNotFoundError):  # between the old log and the new one there is none
                info = path.stat()
                if info.st_ino != os.fstat(log.fileno()).st_ino:
                    shutil.copyfileobj(log, sys.stdout.buffer)
                    log = opened.enter_context(path.open("rb"))
                elif info.st_size < log.tell():
                    log.seek(0)
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            time.sleep(_POLL_S)
