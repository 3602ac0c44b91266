"""`pilvi kubeconfig`: access to the platform's API."""

from __future__ import annotations

from pathlib import Path

import click

from pilvi.cli.options import cloud_option


@click.command()
@click.option("--merge", is_flag=True, help="Put it into your kubeconfig and make it the current context, instead of printing it.")
@cloud_option
def kubeconfig(merge: bool, home: Path) -> None:
    """Print the kubeconfig of the platform, or merge it into yours.

    \b
    Example:
      sudo pilvi kubeconfig > cloud.conf
    """
    from pilvi.cli import contexts
    from pilvi.cli.connection import get_platform

    content = get_platform(home)
    if merge:
        click.echo(f"The current context is {contexts.merge_into_user(home, content)}.")
    else:
        click.echo(content, nl=False)
