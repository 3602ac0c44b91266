"""`pilvi down`: everything stops; with --purge nothing is left, and that is proved."""

from pathlib import Path

import click

from pilvi.cli.options import confirm, home_option, require_root, run_async, yes_option
from pilvi.cli.progress import Waiting


@click.command()
@home_option
@click.option("--purge", is_flag=True, help="Remove all of this cloud: clusters, machines, disks, settings.")
@yes_option
def down(home: Path, purge: bool, yes: bool) -> None:
    """Stop the cloud and keep its data, or remove all of it.

    \b
    Example:
      sudo pilvi down --purge
    """
    require_root("down")
    home = home.absolute()
    if purge:
        confirm(f"Remove the cloud in {home} with all its clusters, machines and disks?", yes)
    run_async(_down(home, purge))


async def _down(home: Path, purge: bool) -> None:
    from pilvi.cli import contexts
    from pilvi.engine.process import stop_engine
    from pilvi.host.cloud import get_cloud
    from pilvi.plane.down import purge_cloud, stop_cloud

    cloud = get_cloud(home)
    with Waiting() as waiting:
        waiting.show("the engine to stop")
        await stop_engine(cloud)
        await stop_cloud(cloud, waiting.show)
        if not purge:
            waiting.line(f"Cloud {cloud.id} is stopped; its data stays in {home}. `pilvi up` starts it again.")
            return
        authorities = contexts.authorities_of(cloud)
        restored = await purge_cloud(cloud, waiting.show)
        removed = contexts.remove(authorities)
        waiting.line(f"Cloud {cloud.id} is removed: no process, namespace, link, rule, mount, control group or file of it is left.")
        if restored:
            waiting.line(f"Put back as they were: {', '.join(restored)}.")
        if removed:
            waiting.line(f"Taken out of the kubeconfig: {', '.join(removed)}.")
        waiting.line(f"Left on this host: Debian packages, the kit in {_kit_folder()}, and the Python environment of pilvi.")


def _kit_folder() -> Path:
    from pilvi import kit

    return kit.get_folder()
