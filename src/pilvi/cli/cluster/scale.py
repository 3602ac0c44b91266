"""`pilvi cluster scale`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@click.option("--workers", type=click.IntRange(min=0, max=1000), required=True, help="Wanted number of worker machines.")
@click.option("--pool", help="Which MachineDeployment of the topology, when there are several.")
@click.option("--no-wait", is_flag=True, help="Return when the change is asked for.")
@timeout_option(600)
@cloud_option
def scale(name: str, namespace: str | None, workers: int, pool: str | None, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Change the number of workers and wait until it is so.

    \b
    Example:
      pilvi cluster scale first --workers 3
    """
    run_async(_scale(parse_name(name, namespace), workers, pool, home, timeout_s, wait=not no_wait))


async def _scale(key: Key, workers: int, pool: str | None, home: Path, timeout_s: float, *, wait: bool) -> None:
    from pilvi.api.builtin import CLUSTERS
    from pilvi.cli.cluster.ready import wait_ready
    from pilvi.cli.connection import open_platform
    from pilvi.cli.manifests import MANAGER
    from pilvi.cli.progress import Waiting
    from pilvi.errors import UserError
    from pilvi.lib.deadline import Deadline

    deadline = Deadline(timeout_s)
    with Waiting() as waiting:
        async with open_platform(home, waiting) as client:
            cluster = await client.find(CLUSTERS, key)
            if cluster is None:
                raise UserError(f"there is no cluster {key}", hint="pilvi cluster list")
            index = _find_pool(cluster, key, pool)
            place = f"/spec/topology/workers/machineDeployments/{index}"
            name = cluster["spec"]["topology"]["workers"]["machineDeployments"][index]["name"]
            # The test makes it a conflict when somebody reordered the pools in between.
            test = {"op": "test", "path": f"{place}/name", "value": name}
            await client.patch(CLUSTERS, key, [test, {"op": "add", "path": f"{place}/replicas", "value": workers}], manager=MANAGER)
            if wait:
                await wait_ready(client, key, waiting, deadline.left_s, home)
    click.echo(f"Cluster {key} {'has' if wait else 'is asked to have'} {workers} workers.")


def _find_pool(cluster: JsonObject, key: Key, pool: str | None) -> int:
    """Which of the topology's MachineDeployments is meant. Raises UserError naming them when that is not clear."""
    from pilvi.errors import UserError

    topology = cluster["spec"].get("topology")
    if not topology:
        raise UserError(
            f"cluster {key} was not made from a ClusterClass, so its workers are an object of their own",
            hint=f"pilvi kubectl scale machinedeployment -n {key.namespace} NAME --replicas N",
        )
    names = [worker["name"] for worker in (topology.get("workers") or {}).get("machineDeployments") or []]
    if pool is None and len(names) == 1:
        return 0
    if pool in names:
        return names.index(pool)
    known = ", ".join(names) or "none"
    what = f"no pool {pool}" if pool else f"{len(names)} pools of workers"
    raise UserError(
        f"cluster {key} has {what}; its pools: {known}", hint="name one with --pool" if names else "add one to spec.topology.workers"
    )
