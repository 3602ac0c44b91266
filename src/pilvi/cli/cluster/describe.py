"""`pilvi cluster describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.options import cloud_option, namespace_option, output_option, parse_name, run_async, timeout_option
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.plane.world import World


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@output_option
@timeout_option(20)
@cloud_option
def describe(name: str, namespace: str | None, output: str, timeout_s: float, home: Path) -> None:
    """Show a cluster with its parts, for root also its processes, and why it is not ready.

    \b
    Example:
      pilvi cluster describe first
    """
    key = parse_name(name, namespace)
    run_async(_describe(key, output, home, timeout_s))


async def _describe(key: Key, output: str, home: Path, timeout_s: float) -> None:
    from pilvi.cli.cluster.units import read_cluster, units_of
    from pilvi.cli.connection import find_units
    from pilvi.plane.status import cluster_status
    from pilvi.plane.why import explain

    units = find_units(home)
    world, cluster = await read_cluster(home, key, timeout_s)
    explanation = explain(world, cluster, units)
    parts = _parts(world, cluster)
    status = cluster_status(world, cluster, units)
    own = units_of(world, cluster, units)
    if output != "table":
        print_data(
            {"cluster": status, "endpoint": _endpoint(cluster), "parts": parts, "units": [unit.name for unit in own], "why": explanation},
            output,
        )
        return
    click.echo(f"Cluster    {key}")
    click.echo(f"Version    {status.version}")
    click.echo(f"API server {_endpoint(cluster) or 'not yet known'}")
    click.echo(f"Workers    {status.nodes} Ready")
    click.echo("Parts")
    print_table(
        ("KIND", "NAME", "STATE"), [("  " * part["depth"] + part["kind"], part["name"], part["state"]) for part in parts], indent="  "
    )
    if own:  # only root sees any
        click.echo("Units")
        print_table(("NAME", "STATE", "PID"), [(unit.name, unit.state, str(unit.pid or "")) for unit in own], indent="  ")
    click.echo(explanation.text())


def _parts(world: World, cluster: JsonObject) -> list[dict[str, Any]]:
    """The cluster's objects as a tree: what belongs to another follows it, one deeper."""
    from pilvi.plane.faults import find_fault

    parts: list[dict[str, Any]] = []

    def add(obj: JsonObject, depth: int) -> None:
        fault = find_fault(obj)
        name = obj["metadata"]["name"]
        parts.append({"depth": depth, "kind": obj["kind"], "name": name, "state": fault.summary if fault else "ready"})
        for child in world.children(obj):
            add(child, depth + 1)

    for child in world.children(cluster):
        add(child, 0)
    return parts


def _endpoint(cluster: JsonObject) -> str:
    endpoint = cluster["spec"].get("controlPlaneEndpoint") or {}
    return f"https://{endpoint['host']}:{endpoint['port']}" if endpoint.get("host") else ""
