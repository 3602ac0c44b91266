"""`pilvi image delete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.image.access import parse_image
from pilvi.cli.options import cloud_option, confirm, run_async, timeout_option, yes_option

if TYPE_CHECKING:
    from pilvi.images import Reference

__all__ = ["delete"]


@click.command()
@click.argument("name", metavar="NAME:TAG")
@yes_option
@timeout_option(20)
@cloud_option
def delete(name: str, yes: bool, timeout_s: float, home: Path) -> None:
    """Delete an image from the cloud's registry.

    Machines that were made of it go on, and so does what has been pulled. The disk gets its space back once nobody has pushed for ten
    minutes.

    \b
    Example:
      pilvi image delete debian:13
    """
    reference = parse_image(name)
    confirm(f"Delete {reference} from the registry?", yes)
    run_async(_delete(home, reference, timeout_s))
    click.echo(f"Deleted {reference}.")


async def _delete(home: Path, reference: Reference, timeout_s: float) -> None:
    from pilvi.cli.image.access import open_writer
    from pilvi.cli.progress import Waiting
    from pilvi.lib.deadline import within

    with Waiting() as waiting:
        async with open_writer(home, waiting, timeout_s) as writer:
            await within(timeout_s, writer.delete(reference), "the registry to answer")
