"""`pilvi vm list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import check_word, cloud_option, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.cli.vm.state import MachineRow


@click.command("list")
@click.option("-n", "--namespace", help="Only the machines of this namespace.")
@output_option
@timeout_option(20)
@cloud_option
def list_(namespace: str | None, output: str, timeout_s: float, home: Path) -> None:
    """List virtual machines, the workers of clusters among them.

    \b
    Example:
      pilvi vm list -o json
    """
    if namespace is not None:
        check_word(namespace, "namespace")
    rows = run_async(_read(home, namespace, timeout_s))
    if output != "table":
        print_data(rows, output)
        return
    if not rows:
        click.echo("There are no virtual machines.", err=True)
        return
    print_table(
        ("NAMESPACE", "NAME", "STATUS", "READY", "ADDRESS", "NODE"),
        [(row.namespace, row.name, row.status, "yes" if row.ready else "no", row.address, row.node) for row in rows],
    )


async def _read(home: Path, namespace: str | None, timeout_s: float) -> list[MachineRow]:
    from pilvi.api import Key
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import INSTANCES, MACHINES, row_of

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            machines = await client.list(MACHINES, namespace=namespace)
            instances = {Key.of(vmi): vmi for vmi in await client.list(INSTANCES, namespace=namespace)}
    return [row_of(vm, instances.get(Key.of(vm))) for vm in sorted(machines, key=Key.of)]
