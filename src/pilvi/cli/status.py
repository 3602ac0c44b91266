"""`pilvi status`: what runs, and one line of cause for whatever does not."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import cloud_option, no_cloud, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed

if TYPE_CHECKING:
    from pilvi.plane.status import Status, UnitStatus


@click.command()
@output_option
@timeout_option(5, "How long to wait for each answer of the API; all else is shown in any case.")
@cloud_option
def status(output: str, timeout_s: float, home: Path) -> None:
    """Show engine, units, hosts, clusters, machines and storage, and why something is not ready.

    Works with a dead engine and with a dead API. The document of -o json only ever grows.

    \b
    Example:
      pilvi status -o json
    """
    with Waiting() as waiting:
        waiting.show("the cloud's API to answer")
        found = run_async(_read(home, timeout_s))
    if output == "table":
        print_status(found)
    else:
        print_data(found, output)


async def _read(home: Path, timeout_s: float) -> Status:
    from pilvi.cli.connection import find_platform, parse, read_engine
    from pilvi.host.cloud import find_cloud
    from pilvi.plane.status import read_status

    cloud = None
    with contextlib.suppress(PermissionError):
        cloud = find_cloud(home)
    kubeconfig = find_platform(home)
    if cloud is None and kubeconfig is None:
        raise no_cloud(home)
    return await read_status(cloud, read_engine(cloud), parse(kubeconfig) if kubeconfig else None, api_timeout_s=timeout_s)


def print_status(found: Status) -> None:
    """The whole status, for a person."""
    cloud, engine = found.cloud, found.engine
    if cloud.id:
        click.echo(f"Cloud   {cloud.id} in {cloud.home}, range {cloud.range}, machines {cloud.machines}")
        runs = f"pilvi {engine.version}, pid {engine.pid}" if engine.pid else _bad(as_typed("does not run; sudo pilvi up starts it"))
        click.echo(f"Engine  {runs}")
    click.echo(f"API     {_bad(found.api) if found.api else 'answers'}")
    _print_units(found.units, cloud.id)
    if found.hosts:
        _section("Hosts")
        print_table(
            ("NAME", "READY", "CPU FOR MACHINES", "MEMORY FOR MACHINES", "CAUSE"),
            [(host.name, _yes(host.ready), host.cpu, _memory(host.memory), host.cause) for host in found.hosts],
            indent="  ",
        )
    if found.clusters:
        _section("Clusters")
        print_table(
            ("NAMESPACE", "NAME", "VERSION", "READY", "NODES", "CAUSE"),
            [(item.namespace, item.name, item.version, _yes(item.ready), item.nodes, item.cause) for item in found.clusters],
            indent="  ",
        )
    if found.machines:
        _section("Machines")
        print_table(
            ("NAMESPACE", "NAME", "PHASE", "FIDELITY", "ADDRESSES", "CAUSE"),
            [(item.namespace, item.name, item.phase, item.fidelity, " ".join(item.addresses), item.cause) for item in found.machines],
            indent="  ",
        )
    if found.storage_classes:
        _section("Storage classes")
        print_table(
            ("NAME", "CLONE", "SNAPSHOT", "SHARE", "EXPAND", "COPIES BY", "PROMISED", "FREE"),
            [
                (
                    item.name,
                    *(_yes(ability) for ability in (item.clone, item.snapshot, item.share, item.expand)),
                    item.method,
                    _gib(item.promised_bytes),
                    _gib(item.free_bytes) if item.free_bytes is not None else "",
                )
                for item in found.storage_classes
            ],
            indent="  ",
        )


def _print_units(units: list[UnitStatus], cloud_id: str) -> None:
    if not units:
        if cloud_id:
            click.echo("Units   none" if os.geteuid() == 0 else "Units   only root sees them")
        return
    running = [unit for unit in units if unit.state == "running"]
    total = sum(unit.memory_bytes or 0 for unit in running)
    click.echo(f"Units   {len(running)} of {len(units)} run, with {total / 2**20:.0f} MiB of memory")
    for group, members in _groups(running).items():
        memory = sum(unit.memory_bytes or 0 for unit in members)
        click.echo(f"          {group}: {len(members)} with {memory / 2**20:.0f} MiB")
    for unit in units:
        if unit.cause:
            click.echo(f"          {_bad(unit.name)}: {unit.cause}")


def _groups(units: list[UnitStatus]) -> dict[str, list[UnitStatus]]:
    """Units by what they are for; their names tell (docs/design/0001)."""
    prefixes = {"plane-": "platform", "capi-": "platform", "cp-": "control planes", "m-": "machines", "vpc-": "networks"}
    groups: dict[str, list[UnitStatus]] = {}
    for unit in units:
        group = next((group for prefix, group in prefixes.items() if unit.name.startswith(prefix)), "others")
        if group == "machines" and unit.name.endswith("-tpm"):
            group = "TPMs of machines"
        groups.setdefault(group, []).append(unit)
    return groups


def _section(name: str) -> None:
    click.secho(name, bold=True)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _bad(text: str) -> str:
    return click.style(text, fg="red")


def _memory(quantity: str) -> str:
    from pilvi.lib.quantity import quantity_bytes

    return _gib(quantity_bytes(quantity)) if quantity else ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
