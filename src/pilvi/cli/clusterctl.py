"""`pilvi clusterctl`: the kit's clusterctl on the platform."""

from __future__ import annotations

from pathlib import Path

import click

from pilvi.cli.kubectl import PASS_ON, execute
from pilvi.cli.options import cloud_option


@click.command(context_settings=PASS_ON)
@cloud_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def clusterctl(home: Path, args: tuple[str, ...]) -> None:
    """Run clusterctl on the platform; everything after -- is clusterctl's.

    \b
    Example:
      pilvi clusterctl -- describe cluster first
    """
    from pilvi.cli.connection import get_platform

    # Without it clusterctl asks the network for newer versions of itself.
    execute("clusterctl", args, get_platform(home), CLUSTERCTL_DISABLE_VERSIONCHECK="true")
