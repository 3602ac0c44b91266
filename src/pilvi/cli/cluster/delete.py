"""`pilvi cluster delete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, confirm, namespace_option, parse_name, run_async, timeout_option, yes_option

if TYPE_CHECKING:
    from pilvi.api import Key


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@yes_option
@click.option("--no-wait", is_flag=True, help="Return when the deletion is asked for.")
@timeout_option(300)
@cloud_option
def delete(name: str, namespace: str | None, yes: bool, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Delete a cluster with its workers, its disks and its network, and wait until nothing of it is left.

    \b
    Example:
      pilvi cluster delete first
    """
    key = parse_name(name, namespace)
    run_async(_delete(key, yes, home, timeout_s, wait=not no_wait))


async def _delete(key: Key, yes: bool, home: Path, timeout_s: float, *, wait: bool) -> None:
    import contextlib

    from pilvi.api.builtin import CLUSTERS
    from pilvi.cli import contexts
    from pilvi.cli.cluster.ready import wait_gone
    from pilvi.cli.connection import describe_platform, get_tenant, open_platform, parse
    from pilvi.cli.progress import Waiting
    from pilvi.errors import UserError
    from pilvi.lib.deadline import Deadline

    with Waiting() as waiting:
        async with open_platform(home, waiting) as client:
            cluster = await client.find(CLUSTERS, key)
            if cluster is None:
                raise UserError(f"there is no cluster {key}", hint="pilvi cluster list")
            waiting.hide()
            confirm(f"Delete cluster {key} of the cloud at {describe_platform(home)}, with everything that runs in it?", yes)
            waiting.show(f"cluster {key} to go")
            deadline = Deadline(timeout_s)
            authorities: set[bytes] = set()
            with contextlib.suppress(UserError):  # a cluster that never had a kubeconfig has no context either
                authority = parse(await get_tenant(client, key)).ca
                authorities = {authority} if isinstance(authority, bytes) else set()
            await client.ensure_absent(CLUSTERS, key, uid=cluster["metadata"]["uid"])
            if wait:
                await wait_gone(client, key, waiting, deadline.left_s, home)
    removed = contexts.remove("", authorities)
    click.echo(f"Cluster {key} is {'gone' if wait else 'being deleted'}.")
    if removed:
        click.echo(f"Taken out of the kubeconfig: {', '.join(removed)}.")
