"""`pilvi why`: the reason behind what is not ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, output_option, parse_name, run_async, timeout_option
from pilvi.cli.output import print_data
from pilvi.cli.progress import Waiting

if TYPE_CHECKING:
    from pilvi.api import Key, Resource
    from pilvi.plane.why import Explanation


@click.command()
@click.argument("what", metavar="KIND/[NAMESPACE/]NAME")
@namespace_option
@output_option
@timeout_option(20)
@cloud_option
def why(what: str, namespace: str | None, output: str, timeout_s: float, home: Path) -> None:
    """Explain why an object is not ready: the way to what is at fault, its last Events, the last log lines behind it.

    KIND is a kind of Cluster API, Kamaji, KubeVirt or Kube-OVN, or its short name: cluster, md, machine, tcp, vm, vmi, vpc.

    \b
    Example:
      pilvi why cluster/first
      pilvi why vmi/team-a/first-workers-x7k2p
    """
    from pilvi.plane.world import find_kind

    kind, slash, name = what.partition("/")
    if not slash:
        raise click.UsageError(f"{what!r} names no object; write KIND/NAME, for example cluster/first")
    found = run_async(_explain(home, find_kind(kind), parse_name(name, namespace), timeout_s))
    if output == "table":
        click.echo(found.text())
    else:
        print_data(found, output)


async def _explain(home: Path, kind: Resource, key: Key, timeout_s: float) -> Explanation:
    from pilvi.api import Key
    from pilvi.cli.connection import find_units, open_platform
    from pilvi.plane.why import explain_object

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            return await explain_object(client, kind, key if kind.namespaced else Key("", key.name), find_units(home))
