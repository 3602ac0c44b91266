"""`pilvi host list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.cli.host.state import HostRow


@click.command("list")
@output_option
@timeout_option(20)
@cloud_option
def list_(output: str, timeout_s: float, home: Path) -> None:
    """List virtual hosts, with what machines may use of them.

    \b
    Example:
      pilvi host list -o json
    """
    rows = run_async(_read(home, timeout_s))
    if output != "table":
        print_data(rows, output)
        return
    print_table(
        ("NAME", "STATUS", "MACHINES", "CPU", "MEMORY"),
        [(row.name, row.status, str(row.machines), row.cpu, row.memory) for row in rows],
    )


async def _read(home: Path, timeout_s: float) -> list[HostRow]:
    from pilvi.api.builtin import NODES
    from pilvi.cli.connection import open_platform
    from pilvi.cli.host.state import row_of
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import INSTANCES

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            nodes = await client.list(NODES)
            machines = await client.list(INSTANCES)
    return [row_of(node, machines) for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"]))]
