"""`pilvi cluster kubeconfig`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option
from pilvi.cli.progress import Waiting

if TYPE_CHECKING:
    from pilvi.api import Key


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@click.option("--merge", is_flag=True, help="Put it into your kubeconfig and make it the current context, instead of printing it.")
@timeout_option(20)
@cloud_option
def kubeconfig(name: str, namespace: str | None, merge: bool, timeout_s: float, home: Path) -> None:
    """Print the administrator's kubeconfig of a cluster, or merge it into yours.

    \b
    Example:
      pilvi cluster kubeconfig first > first.conf
    """
    key = parse_name(name, namespace)
    content = run_async(_read(key, home, timeout_s))
    if not merge:
        click.echo(content, nl=False)
        return
    from pilvi.cli import contexts

    click.echo(f"The current context is {contexts.merge_into_user(home, content, str(key))}.")


async def _read(key: Key, home: Path, timeout_s: float) -> bytes:
    from pilvi.cli.connection import get_tenant, open_platform

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            return await get_tenant(client, key)
