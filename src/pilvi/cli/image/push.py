"""`pilvi image push`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.image.access import parse_image
from pilvi.cli.options import cloud_option, run_async, timeout_option

if TYPE_CHECKING:
    from pilvi.images.bundle import Bundle

__all__ = ["push"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.argument("name", metavar="NAME[:TAG]")
@timeout_option(20, "How long to wait at most for the cloud's API; the push itself takes what it takes.")
@cloud_option
def push(path: Path, name: str, timeout_s: float, home: Path) -> None:
    """Store PATH in the cloud's registry as pilvi.dev/NAME:TAG. TAG is latest where none is given.

    PATH is a disk (raw or qcow2), which becomes a container disk; or an image: a folder in the OCI layout, or an archive of
    `podman save` or `docker save`. What is there already is not sent again.

    \b
    Example:
      pilvi image push debian-13.qcow2 debian:13
      pilvi image push app.tar team-a/app:v1
    """
    reference = parse_image(name)
    run_async(_push(home, path.absolute(), str(reference), timeout_s))
    click.echo(f"Stored as {reference}.")


async def _push(home: Path, path: Path, name: str, timeout_s: float) -> None:
    from pilvi.cli.image.access import open_writer
    from pilvi.cli.progress import Waiting
    from pilvi.images import parse_reference

    reference = parse_reference(name)
    with Waiting() as waiting:
        waiting.show(f"{path.name} to be read")
        async with open_bundle(path, name) as bundle, open_writer(home, waiting, timeout_s) as writer:

            def progress(done: int, total: int) -> None:
                waiting.show(f"{reference}: {done >> 20} of {total >> 20} MiB", of="the push")

            await writer.push(reference, bundle, progress)


@asynccontextmanager
async def open_bundle(path: Path, name: str) -> AsyncIterator[Bundle]:
    """What PATH holds, as an image, for the length of a block. Raises UserError."""
    from pilvi.errors import UserError
    from pilvi.images.bundle import read_bundle
    from pilvi.images.wrap import disk_name, open_disk, wrap_files
    from pilvi.lib.disk import on_disk

    bundle = await on_disk(read_bundle, path, name)
    if bundle is not None:
        yield bundle
        return
    if await on_disk(path.is_dir):
        raise UserError(
            f"{path} is no image in the OCI layout: it has no index.json", hint="name the folder that holds index.json, or a disk"
        )
    async with open_disk(path, Path(tempfile.gettempdir())) as disk:
        yield await wrap_files([{disk_name(path): disk}], {})
