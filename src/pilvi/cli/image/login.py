"""`pilvi image login`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pilvi.cli.options import cloud_option, run_async, timeout_option

__all__ = ["login"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@timeout_option(20)
@cloud_option
def login(folder: Path, timeout_s: float, home: Path) -> None:
    """Write what podman, skopeo, docker or crane need to push to the cloud's registry into FOLDER: ca.crt and config.json.

    It prints the registry's address, which those programs use in place of the name pilvi.dev.

    \b
    Example:
      pilvi image login ~/pilvi-registry
    """
    click.echo(run_async(_write(home, folder, timeout_s)))


async def _write(home: Path, folder: Path, timeout_s: float) -> str:
    from pilvi.cli.image.access import find_access
    from pilvi.cli.progress import Waiting
    from pilvi.images import make_docker_config
    from pilvi.lib.disk import on_disk
    from pilvi.lib.files import write_atomic

    with Waiting() as waiting:
        endpoint, credentials = await find_access(home, waiting, timeout_s)
    config = json.dumps(make_docker_config(credentials, str(endpoint.address), endpoint.host), indent=2)

    def write() -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(folder / "ca.crt", endpoint.authority)
        write_atomic(folder / "config.json", config + "\n", mode=0o600)

    await on_disk(write)
    return str(endpoint.address)
