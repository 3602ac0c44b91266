"""`pilvi cluster describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.options import home_option, namespace_option, output_option, parse_name, run_async
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.host.units import UnitState
    from pilvi.plane.timeline import Phase
    from pilvi.plane.why import Explanation
    from pilvi.plane.world import World


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@output_option
@home_option
def describe(name: str, namespace: str, output: str, home: Path) -> None:
    """Show a cluster with its parts, how it came to be, and why it is not ready.

    \b
    Example:
      pilvi cluster describe first
    """
    key = parse_name(name, namespace)
    run_async(_describe(key, output, home))


async def _describe(key: Key, output: str, home: Path) -> None:
    from pilvi.api.builtin import CLUSTERS
    from pilvi.cli.cluster.timeline import draw_timeline, read_timeline
    from pilvi.cli.connection import find_units, open_platform
    from pilvi.errors import UserError
    from pilvi.plane.status import cluster_status
    from pilvi.plane.why import explain
    from pilvi.plane.world import read_world

    units = find_units(home)
    async with open_platform(home) as client:
        world = await read_world(client, key.namespace)
        cluster = world.find(CLUSTERS, key)
        if cluster is None:
            raise UserError(f"there is no cluster {key}", hint="pilvi cluster list")
        phases = await read_timeline(client, world, key, home)
    explanation = explain(world, cluster, units)
    parts = _parts(world, cluster, units)
    if output != "table":
        data = {"cluster": cluster_status(world, cluster, units), "endpoint": _endpoint(cluster), "parts": parts}
        print_data({**data, "timeline": phases, "why": explanation}, output)
        return
    status = cluster_status(world, cluster, units)
    click.echo(f"Cluster    {key}")
    click.echo(f"Version    {status.version}")
    click.echo(f"API server {_endpoint(cluster) or 'not yet known'}")
    click.echo(f"Workers    {status.nodes} Ready")
    click.echo("Parts")
    print_table(("KIND", "NAME", "STATE"), [(part["kind"], part["name"], part["state"]) for part in parts], indent="  ")
    _print_end(phases, explanation, draw_timeline)


def _print_end(phases: list[Phase], explanation: Explanation, draw: Any) -> None:
    if phases:
        click.echo("Time line")
        for line in draw(phases):
            click.echo(line)
    click.echo(explanation.text())


def _parts(world: World, cluster: JsonObject, units: list[UnitState]) -> list[dict[str, str]]:
    """The cluster's objects as a tree: what belongs to another stands indented below it."""
    from pilvi.plane.faults import find_fault

    parts: list[dict[str, str]] = []

    def add(obj: JsonObject, depth: int) -> None:
        fault = find_fault(obj)
        name = obj["metadata"]["name"]
        parts.append({"kind": "  " * depth + obj["kind"], "name": name, "state": fault.summary if fault else "ready"})
        for child in world.children(obj):
            add(child, depth + 1)

    for child in world.children(cluster):
        add(child, 0)
    return parts


def _endpoint(cluster: JsonObject) -> str:
    endpoint = cluster["spec"].get("controlPlaneEndpoint") or {}
    return f"https://{endpoint['host']}:{endpoint['port']}" if endpoint.get("host") else ""
