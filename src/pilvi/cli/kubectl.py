"""`pilvi kubectl`: the kit's kubectl with the right kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import click

from pilvi.cli.options import cloud_option, parse_name, run_async
from pilvi.cli.progress import Waiting

READ_TIMEOUT_S = 20.0  # not an option: --timeout is one of kubectl's own
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command(context_settings=PASS_ON)
@click.option("--cluster", metavar="[NAMESPACE/]NAME", help="Talk to this cluster instead of the platform.")
@cloud_option
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def kubectl(cluster: str | None, home: Path, args: tuple[str, ...]) -> None:
    """Run kubectl on the platform, or on a cluster; everything after -- is kubectl's.

    \b
    Example:
      pilvi kubectl -- get clusters -A
      pilvi kubectl --cluster team-a/first -- get nodes
    """
    from pilvi.cli.connection import get_platform

    content = get_platform(home) if cluster is None else run_async(_read_tenant(home, cluster))
    execute("kubectl", args, content)


async def _read_tenant(home: Path, cluster: str) -> bytes:
    from pilvi.cli.connection import get_tenant, open_platform

    key = parse_name(cluster)
    with Waiting() as waiting:
        async with open_platform(home, waiting, READ_TIMEOUT_S) as client:
            return await get_tenant(client, key)


def execute(name: str, args: tuple[str, ...], kubeconfig: bytes, **environment: str) -> NoReturn:
    """Replace this process by a program of the kit. The kubeconfig lies in memory only: no file of it is left behind."""
    from pilvi import kit

    program = kit.get_binary(name)
    descriptor = os.memfd_create("kubeconfig", 0)  # without close-on-exec: the program inherits it
    os.write(descriptor, kubeconfig)
    os.execve(program, [name, *args], {**os.environ, **environment, "KUBECONFIG": f"/proc/self/fd/{descriptor}"})  # noqa: S606 (the kit's)
