"""`pilvi cluster list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import home_option, output_option, run_async
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.plane.status import ClusterStatus


@click.command("list")
@click.option("-n", "--namespace", help="Only the clusters of this namespace.")
@output_option
@home_option
def list_(namespace: str | None, output: str, home: Path) -> None:
    """List clusters, with the reason for each that is not ready.

    \b
    Example:
      pilvi cluster list -o json
    """
    clusters = run_async(_read(home, namespace))
    if output != "table":
        print_data(clusters, output)
        return
    if not clusters:
        click.echo("There are no clusters. pilvi cluster create NAME makes one.", err=True)
        return
    print_table(
        ("NAMESPACE", "NAME", "VERSION", "READY", "NODES", "CAUSE"),
        [(item.namespace, item.name, item.version, "yes" if item.ready else "no", item.nodes, item.cause) for item in clusters],
    )


async def _read(home: Path, namespace: str | None) -> list[ClusterStatus]:
    from pilvi.api.builtin import CLUSTERS
    from pilvi.cli.connection import find_units, open_platform
    from pilvi.plane.status import cluster_status
    from pilvi.plane.world import read_world

    async with open_platform(home) as client:
        world = await read_world(client, namespace)
    units = find_units(home)
    return [cluster_status(world, cluster, units) for cluster in world.of_kind(CLUSTERS)]
