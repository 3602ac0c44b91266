"""`pilvi image list`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pilvi.cli.options import cloud_option, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table


@click.command("list")
@output_option
@timeout_option(20)
@cloud_option
def list_(output: str, timeout_s: float, home: Path) -> None:
    """List the images of the cloud's registry. SIZE is what an image's layers take; images share equal layers.

    \b
    Example:
      pilvi image list -o json
    """
    rows = run_async(_read(home, timeout_s))
    if output != "table":
        print_data(rows, output)
        return
    if not rows:
        click.echo("The registry is empty.", err=True)
        return
    print_table(
        ("IMAGE", "DIGEST", "SIZE"),
        [(row["image"], row["digest"].removeprefix("sha256:")[:12], f"{row['sizeBytes'] / 2**20:.1f} MiB") for row in rows],
    )


async def _read(home: Path, timeout_s: float) -> list[dict[str, Any]]:
    from pilvi.cli.image.access import open_writer
    from pilvi.cli.progress import Waiting
    from pilvi.lib.deadline import within

    with Waiting() as waiting:
        async with open_writer(home, waiting, timeout_s) as writer:
            found = await within(timeout_s, writer.list_images(), "the registry to answer")
    return [{"image": str(stored.reference), "digest": stored.digest, "sizeBytes": stored.size_bytes} for stored in found]
