"""`pilvi down`: everything stops; with --purge nothing is left, and that is proved."""

from __future__ import annotations

from pathlib import Path

import click

from pilvi.cli.options import confirm, home_option, require_root, run_async, timeout_option, yes_option
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed


@click.command()
@click.option("--purge", is_flag=True, help="Remove all of this cloud: clusters, machines, disks, settings.")
@yes_option
@timeout_option(600)
@home_option
def down(home: Path, purge: bool, yes: bool, timeout_s: float) -> None:
    """Stop the cloud and keep its data, or remove all of it.

    \b
    Example:
      sudo pilvi down --purge
    """
    from pilvi.host.cloud import find_cloud
    from pilvi.lib.deadline import within

    require_root("down")
    cloud = find_cloud(home)
    if cloud is None:
        click.echo(f"There is no cloud in {home}: nothing to {'remove' if purge else 'stop'}.", err=True)
        return
    if purge:
        confirm(f"Remove cloud {cloud.id} in {home} with all its clusters, machines and disks?", yes)
    what = f"cloud {cloud.id} to be {'removed' if purge else 'stopped'}"
    run_async(within(timeout_s, _down(home, purge), what, f"pilvi down{' --purge' if purge else ''} again goes on where it was"))


async def _down(home: Path, purge: bool) -> None:
    from pilvi.cli import contexts
    from pilvi.cli.cloud import hold_home, remove_cloud, stop
    from pilvi.host.cloud import get_cloud

    with Waiting() as waiting, hold_home(home):
        cloud = get_cloud(home)
        if not purge:
            await stop(cloud, waiting)
            waiting.line(as_typed(f"Cloud {cloud.id} is stopped; its data stays in {home}. `sudo pilvi up` starts it again."))
            return
        authorities = contexts.authorities_of(cloud)
        restored = await remove_cloud(cloud, waiting)
        removed = contexts.remove(cloud.id, authorities)
        waiting.line(f"Cloud {cloud.id} is removed: no process, namespace, link, rule, mount, control group or file of it is left.")
        if restored:
            waiting.line(f"Put back as they were: {', '.join(restored)}.")
        if removed:
            waiting.line(f"Taken out of the kubeconfig: {', '.join(removed)}.")
        waiting.line(f"Left on this host: Debian packages, the kit in {_kit_folder()}, and the Python environment of pilvi.")


def _kit_folder() -> Path:
    from pilvi import kit

    return kit.get_folder()
