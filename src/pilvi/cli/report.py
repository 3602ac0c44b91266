"""`pilvi report`: one archive for a bug report."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from pilvi.cli.options import cloud_option, run_async, timeout_option, writable_file
from pilvi.cli.progress import Waiting

TIMEOUT_S = 120.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), callback=writable_file)
@timeout_option(TIMEOUT_S)
@cloud_option
def report(file: Path, timeout_s: float, home: Path) -> None:
    """Write objects, logs, links, rules and versions to one archive (.tar.gz). It holds no data of Secrets.

    Works with a dead engine and with a dead API; as root it holds most. Look into it before you pass it on.

    \b
    Example:
      sudo pilvi report pilvi-report.tar.gz
    """
    with Waiting() as waiting:
        waiting.show(f"{file} to be written")
        missing = run_async(write(file, home, timeout_s))
        waiting.line(f"{file}: {file.stat().st_size / 2**20:.1f} MiB" + (", without:" if missing else ""))
        for line in missing:
            waiting.line(f"  {line}")


async def write(file: Path, home: Path, timeout_s: float) -> list[str]:
    """Write the archive; returns what it lacks. Raises OSError, and TimedOut: then the file holds what was read until then."""
    from pilvi.cli.connection import find_platform, parse, read_engine
    from pilvi.host.cloud import find_cloud
    from pilvi.lib.deadline import within
    from pilvi.plane.report import write_report
    from pilvi.plane.status import read_status

    cloud = None
    with contextlib.suppress(PermissionError):
        cloud = find_cloud(home)
    content = find_platform(home)
    kubeconfig = parse(content) if content else None

    async def work() -> list[str]:
        return await write_report(file, await read_status(cloud, read_engine(cloud), kubeconfig), cloud, kubeconfig)

    missing = await within(timeout_s, work(), f"{file} to be complete", f"look into {file}: it holds what was read until then")
    if owner := os.environ.get("SUDO_UID"):
        os.chown(file, int(owner), int(os.environ.get("SUDO_GID") or -1))
    return missing
