"""`pilvi report`: one archive for a bug report."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from pilvi.cli.options import home_option, run_async
from pilvi.cli.progress import Waiting


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, writable=True))
@home_option
def report(file: Path, home: Path) -> None:
    """Write objects, logs, links, rules and versions to one archive (.tar.gz). It holds no data of Secrets.

    Works with a dead engine and with a dead API; as root it holds most. Look into it before you pass it on.

    \b
    Example:
      sudo pilvi report pilvi-report.tar.gz
    """
    with Waiting() as waiting:
        waiting.show(f"{file} to be written")
        missing = run_async(write(file, home))
        waiting.line(f"{file}: {file.stat().st_size / 2**20:.1f} MiB" + (", without:" if missing else ""))
        for line in missing:
            waiting.line(f"  {line}")


async def write(file: Path, home: Path) -> list[str]:
    """Write the archive; returns what it lacks."""
    from pilvi.cli.connection import find_platform, parse, read_engine
    from pilvi.host.cloud import find_cloud
    from pilvi.plane.report import write_report
    from pilvi.plane.status import read_status

    cloud = None
    with contextlib.suppress(PermissionError):
        cloud = find_cloud(home)
    content = find_platform(home)
    kubeconfig = parse(content) if content else None
    missing = await write_report(file, await read_status(cloud, read_engine(cloud), kubeconfig), cloud, kubeconfig)
    if owner := os.environ.get("SUDO_UID"):
        os.chown(file, int(owner), int(os.environ.get("SUDO_GID") or -1))
    return missing
