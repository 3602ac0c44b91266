"""`pilvi vm describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, output_option, parse_name, run_async, timeout_option
from pilvi.cli.output import print_data, print_table

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@output_option
@timeout_option(20)
@cloud_option
def describe(name: str, namespace: str | None, output: str, timeout_s: float, home: Path) -> None:
    """Show a virtual machine: its state, its addresses, its system, and its conditions. With -o its objects.

    \b
    Example:
      pilvi vm describe team-a/web
    """
    key = parse_name(name, namespace)
    vm, vmi = run_async(_read(home, key, timeout_s))
    if output != "table":
        print_data({"machine": vm, "instance": vmi}, output)
        return
    from pilvi.cli.vm.state import address_of, row_of

    row = row_of(vm, vmi)
    status = (vmi or {}).get("status") or {}
    click.echo(f"Machine  {key}")
    click.echo(f"Status   {row.status}")
    click.echo(f"Strategy {(vm.get('status') or {}).get('runStrategy') or vm['spec'].get('runStrategy') or 'not set'}")
    click.echo(f"Address  {address_of(vmi) or 'none'}")
    click.echo(f"Node     {row.node or 'none'}")
    click.echo(f"System   {(status.get('guestOSInfo') or {}).get('prettyName') or 'not known'}")
    conditions = {entry["type"]: entry for obj in (vm, vmi or {}) for entry in (obj.get("status") or {}).get("conditions") or []}
    click.echo("Conditions")
    print_table(
        ("TYPE", "STATUS", "REASON", "MESSAGE"),
        [(name, entry["status"], entry.get("reason") or "", entry.get("message") or "") for name, entry in sorted(conditions.items())],
        indent="  ",
    )


async def _read(home: Path, key: Key, timeout_s: float) -> tuple[JsonObject, JsonObject | None]:
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import INSTANCES, get_machine

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            return await get_machine(client, key), await client.find(INSTANCES, key)
