"""`pilvi vm export`: a disk of a machine, a snapshot or a claim as a file, by an export that lasts as long as the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option, writable_file

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.kube import Client
    from pilvi.transfer import HttpSource

__all__ = ["export"]

_POLL_S = 0.2
_KINDS = {"vm": ("kubevirt.io", "VirtualMachine"), "snapshot": ("snapshot.kubevirt.io", "VirtualMachineSnapshot")}
_KINDS["pvc"] = ("", "PersistentVolumeClaim")


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), callback=writable_file)
@click.option("--snapshot", "of", flag_value="snapshot", help="NAME is a VirtualMachineSnapshot, whose machine may run.")
@click.option("--pvc", "of", flag_value="pvc", help="NAME is a PersistentVolumeClaim.")
@click.option("--volume", metavar="CLAIM", help="Which one of several volumes.")
@namespace_option
@timeout_option(120, "How long to wait at most for the export to be ready.")
@cloud_option
def export(name: str, file: Path, of: str | None, volume: str | None, namespace: str | None, timeout_s: float, home: Path) -> None:
    """Write a disk into FILE, raw, with holes where it holds zeros. The machine has to be off.

    \b
    Example:
      pilvi vm export team-a/web web.img
      pilvi vm export team-a/before web.img --snapshot
    """
    from tempfile import TemporaryDirectory

    key = parse_name(name, namespace)
    with TemporaryDirectory(prefix=".pilvi-", dir=file.absolute().parent) as folder:
        disk = Path(folder, "disk")
        run_async(_export(home, key, of or "vm", volume, disk, timeout_s))
        size_bytes = disk.stat().st_size
        disk.replace(file)
    click.echo(f"{file} holds the disk, {size_bytes} bytes.")


async def _export(home: Path, key: Key, of: str, volume: str | None, disk: Path, timeout_s: float) -> None:
    """Make `disk`, in a folder that nothing else uses. Raises UserError, TimedOut, and what a download raises."""
    import secrets
    from functools import partial

    from pilvi.api.export import VirtualMachineExport
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.lib.deadline import wait_for
    from pilvi.transfer import Meter, fetch, unpack

    exports = VirtualMachineExport.RESOURCE
    group, kind = _KINDS[of]
    spec = {"source": {"apiGroup": group, "kind": kind, "name": key.name}}
    made = key._replace(name=f"pilvi-export-{secrets.token_hex(4)}")
    with Waiting() as waiting:
        async with open_platform(home, waiting) as client:
            await client.create(exports, exports.new(made, spec=spec))
            try:
                waiting.show(f"the disk of {key} to be ready")
                status = await wait_for(partial(_ready, client, made), timeout_s, f"the disk of {key} to be ready", interval_s=_POLL_S)
                source = await _source(client, made, status, volume)
                waiting.show(f"the disk of {key}")
                meter = Meter()
                await unpack(await fetch(source, disk.parent, meter), disk, "gz", 1 << 62, meter)
            finally:
                await client.ensure_absent(exports, made)


async def _ready(client: Client, key: Key) -> JsonObject:
    """The status of the export when it is ready, empty while something is awaited that comes by itself. Raises UserError."""
    from pilvi.api.export import VirtualMachineExport
    from pilvi.errors import UserError

    status: JsonObject = (await client.get(VirtualMachineExport.RESOURCE, key)).get("status") or {}
    if status.get("phase") == "Ready":
        return status
    told: JsonObject = next((each for each in status.get("conditions") or () if each["type"] == "Ready"), {})
    if status.get("phase") == "Skipped" or told.get("reason") in ("InUse", "Unknown"):
        raise UserError(told.get("message") or "there is nothing to export")
    return {}


async def _source(client: Client, key: Key, status: JsonObject, volume: str | None) -> HttpSource:
    """Where the volume is, with what the server asks for. Raises UserError for one that is not there, or not chosen."""
    import base64

    from pilvi.api.builtin import SECRETS
    from pilvi.errors import UserError
    from pilvi.transfer import HttpSource, Proxies

    link = status["links"]["external"]
    volumes = {each["name"]: each for each in link["volumes"]}
    name = volume or (next(iter(volumes)) if len(volumes) == 1 else "")
    if name not in volumes:
        wrong = f"there is no volume {volume}" if volume else f"there are {len(volumes)} volumes"
        raise UserError(wrong, hint=f"say --volume with one of {', '.join(volumes)}")
    url = next(each["url"] for each in volumes[name]["formats"] if each["format"] == "gzip")
    secret = await client.get(SECRETS, key._replace(name=status["tokenSecretRef"]))
    token = base64.b64decode(secret["data"]["token"]).decode()
    headers = (("x-kubevirt-export-token", token),)
    # As with the API itself, no proxy is asked for the way to the cloud.
    return HttpSource(url=url, headers=headers, authorities=link["cert"], proxies=Proxies())
