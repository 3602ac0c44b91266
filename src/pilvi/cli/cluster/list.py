"""`pilvi cluster list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import check_word, cloud_option, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed

if TYPE_CHECKING:
    from pilvi.plane.status import ClusterStatus


@click.command("list")
@click.option("-n", "--namespace", help="Only the clusters of this namespace.")
@output_option
@timeout_option(20)
@cloud_option
def list_(namespace: str | None, output: str, timeout_s: float, home: Path) -> None:
    """List clusters, with the reason for each that is not ready.

    \b
    Example:
      pilvi cluster list -o json
    """
    if namespace is not None:
        check_word(namespace, "namespace")
    clusters = run_async(_read(home, namespace, timeout_s))
    if output != "table":
        print_data(clusters, output)
        return
    if not clusters:
        click.echo(as_typed("There are no clusters. pilvi cluster create NAME makes one."), err=True)
        return
    print_table(
        ("NAMESPACE", "NAME", "VERSION", "READY", "NODES", "CAUSE"),
        [(item.namespace, item.name, item.version, "yes" if item.ready else "no", item.nodes, item.cause) for item in clusters],
    )


async def _read(home: Path, namespace: str | None, timeout_s: float) -> list[ClusterStatus]:
    from pilvi.api.builtin import CLUSTERS
    from pilvi.cli.connection import find_units, open_platform
    from pilvi.plane.status import cluster_status
    from pilvi.plane.world import read_world

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            world = await read_world(client, namespace)
    units = find_units(home)
    return [cluster_status(world, cluster, units) for cluster in world.of_kind(CLUSTERS)]
