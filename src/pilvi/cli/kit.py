"""`pilvi kit`: toolchain, container images and node images, built here or brought from elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.lazy import Group
from pilvi.cli.options import confirm, output_option, require_root, run_async, timeout_option, writable_file, yes_option
from pilvi.cli.output import print_data, print_table
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed

if TYPE_CHECKING:
    from pilvi.kit import Step


@click.group(cls=Group)
def kit() -> None:
    """Build, list, export and import what clouds are made of: Kubernetes, containerd, Cluster API, images.

    It lies in /var/cache/pilvi/kit, or in the folder that PILVI_CACHE names.

    \b
    Example:
      sudo pilvi kit build
    """


@kit.command(short_help="Build what is missing.")
@timeout_option(7200)
def build(timeout_s: float) -> None:
    """Build what is missing: about ten minutes the first time, nothing afterwards. May be interrupted and repeated.

    \b
    Example:
      sudo pilvi kit build
    """
    from pilvi.lib.deadline import within

    require_root("kit build")
    with Waiting() as waiting:
        hint = "sudo pilvi kit build goes on with what is left"
        if not run_async(within(timeout_s, build_missing(waiting), "the kit to be built", hint)):
            waiting.line("Everything is built already.")


@kit.command("list", short_help="List the parts of the kit, built or missing.")
@output_option
def list_(output: str) -> None:
    """List the parts of the kit, built or missing.

    \b
    Example:
      pilvi kit list -o json
    """
    from pilvi import kit as store
    from pilvi.node.images import list_images
    from pilvi.plane.prune import measure

    rows: list[dict[str, Any]] = [
        {"name": item.name, "key": item.key, "state": item.state, "sizeBytes": item.size_bytes, "versions": item.versions or {}}
        for item in store.list_artefacts()
    ]
    for image in list_images():
        name, _, key = image.path.name.rpartition("-") if image.path else (f"node-image-{image.version}", "", "")
        # For others than root parts of the tree are closed.
        size_bytes = measure([image.path]) if image.path and os.geteuid() == 0 else 0
        rows.append({"name": name, "key": key, "state": image.state, "sizeBytes": size_bytes, "versions": {"kubernetes": image.version}})
    if output != "table":
        print_data(rows, output)
        return
    print_table(
        ("NAME", "KEY", "STATE", "SIZE", "VERSIONS"),
        [(row["name"], row["key"], row["state"], _size(row["sizeBytes"]), _versions(row["versions"])) for row in rows],
    )
    click.echo(f"in {store.get_folder()}")


@kit.command(short_help="Write the kit with its node images to one archive.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), callback=writable_file)
def export(file: Path) -> None:
    """Write the kit with its node images to one archive for other machines; compressed when FILE ends in .gz or .tgz.

    \b
    Example:
      sudo pilvi kit export kit.tar
    """
    require_root("kit export")  # the files of a root tree are readable by their owners only
    with Waiting() as waiting:
        waiting.show(f"{file} to be written")
        run_async(_export(file.absolute()))
        waiting.line(f"{file}: {_size(file.stat().st_size)}. On the other machine: sudo pilvi kit import {file.name}")


@kit.command("import", short_help="Take what is needed from an archive of `kit export`.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(file: Path) -> None:
    """Take what this pilvi needs from an archive that `kit export` made. Import only what you would run as root.

    \b
    Example:
      sudo pilvi kit import kit.tar
    """
    require_root("kit import")
    with Waiting() as waiting:
        waiting.show(f"{file} to be unpacked and checked")
        missing = run_async(_import(file.absolute()))
        waiting.line("Everything is there." if not missing else as_typed(f"Still missing: {', '.join(missing)}. sudo pilvi kit build"))


@kit.command(short_help="Remove what neither this pilvi nor a cloud of this host uses.")
@yes_option
def prune(yes: bool) -> None:
    """Remove parts and node images that neither this pilvi nor a cloud of this host uses, and what interrupted builds have left.

    \b
    Example:
      sudo pilvi kit prune
    """
    from pilvi.plane.prune import plan_prune
    from pilvi.plane.prune import prune as remove

    require_root("kit prune")
    plan = plan_prune()
    for path, user in plan.kept.items():
        click.echo(f"{path.name} stays: {user} uses it")
    if not plan.doomed:
        click.echo("There is nothing to remove.")
        return
    size = _size(plan.freed_bytes)
    confirm(f"Remove {', '.join(path.name for path in plan.doomed)} ({size})?", yes)
    with Waiting() as waiting:
        waiting.show(f"{size} to be removed")
        remove(plan)
        waiting.line(f"Removed {', '.join(path.name for path in plan.doomed)}: {size} are free again.")


async def build_missing(waiting: Waiting) -> bool:
    """Build what is missing of kit and node images; returns whether there was anything. Raises UserError, DriverError."""
    from pilvi import kit as store
    from pilvi.node.images import ensure_node_images, list_images

    progress = _BuildProgress(waiting)
    missing = [item.name for item in store.list_artefacts() if item.state == "missing"]
    if missing:
        waiting.line(f"Building {', '.join(missing)}; about ten minutes the first time.")
        await store.build(progress.tell)
    images = [image for image in list_images() if image.state == "missing"]
    if images:
        started = time.monotonic()
        await ensure_node_images(partial(waiting.show, of="node images"))
        waiting.done(f"node image {', '.join(image.version for image in images)}", time.monotonic() - started)
    return bool(missing or images)


class _BuildProgress:
    """Shows what compiles now, one line for all artefacts, and leaves a line for each that is built."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._running: dict[str, Step] = {}

    def tell(self, step: Step) -> None:
        if step.state == "running":
            self._running[step.artefact] = step
        else:
            self._running.pop(step.artefact, None)
        if step.state == "built":
            self._waiting.done(step.artefact, step.seconds)
        if self._running:
            self._waiting.show(", ".join(map(_describe, self._running.values())), of="the build")


def _describe(step: Step) -> str:
    count = f" {step.compiled}/{step.packages}" if step.packages else ""
    return f"{step.artefact}: {step.doing}{count}" if step.doing else f"{step.artefact}{count}"


async def _export(file: Path) -> None:
    import asyncio

    from pilvi import kit as store
    from pilvi.errors import UserError
    from pilvi.node.images import append_node_images

    # FILE holds the whole archive or what it held before.
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
            archive = Path(folder) / file.name
            await asyncio.to_thread(store.export_archive, archive)
            await append_node_images(archive)
            shutil.move(archive, file)
    except OSError as e:
        raise UserError(f"{file} cannot be written: {e.strerror}", hint="choose a folder on a disk with space") from None


async def _import(file: Path) -> list[str]:
    import asyncio

    from pilvi import kit as store
    from pilvi.node.images import extract_node_images, list_images

    listed = await asyncio.to_thread(store.import_archive, file)
    await extract_node_images(file)
    missing = [item.name for item in listed if item.state == "missing"]
    return missing + [f"node-image-{image.version}" for image in list_images() if image.state == "missing"]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes else ""


def _versions(versions: dict[str, str]) -> str:
    """Go modules and images by what follows their domain, without the major version that modules end in."""
    short = {
        "/".join(part for part in name.split("/")[1:] if part not in {"v2", "v3"}) or name: version for name, version in versions.items()
    }
    return ", ".join(name if ":" in name else f"{name} {version}" for name, version in short.items())
