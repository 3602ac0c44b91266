"""`pilvi cluster kubeconfig`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import home_option, namespace_option, parse_name, run_async

if TYPE_CHECKING:
    from pilvi.api import Key


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@click.option("--merge", is_flag=True, help="Put it into your kubeconfig and make it the current context, instead of printing it.")
@home_option
def kubeconfig(name: str, namespace: str, merge: bool, home: Path) -> None:
    """Print the administrator's kubeconfig of a cluster, or merge it into yours.

    \b
    Example:
      pilvi cluster kubeconfig first > first.conf
    """
    key = parse_name(name, namespace)
    content = run_async(_read(key, home))
    if not merge:
        click.echo(content, nl=False)
        return
    from pilvi.cli import contexts

    click.echo(f"The current context is {contexts.merge_into_user(home, content, str(key))}.")


async def _read(key: Key, home: Path) -> bytes:
    from pilvi.cli.connection import get_tenant, open_platform

    async with open_platform(home) as client:
        return await get_tenant(client, key)
