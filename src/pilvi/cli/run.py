"""`pilvi run`: a command in a throw-away cloud of its own, for CI jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pilvi.cli.options import files_option, require_root, run_async, timeout_option, writable_file


@click.command(context_settings={"allow_interspersed_args": False})
@files_option
@click.option("--range", "cidr", metavar="CIDR", help="Address range of the cloud. Default: a free /24 of 10.250.0.0/16.")
@click.option("--machines", type=click.Choice(["auto", "qemu", "sandbox"]), help="What runs machines that name nothing. Default: auto.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=writable_file,
    metavar="FILE",
    help="Write `pilvi report` there when it fails.",
)
@timeout_option(600, "How long to wait at most for the cloud and its clusters together, before COMMAND is run.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(files: tuple[Path, ...], cidr: str | None, machines: Any, report: Path | None, timeout_s: float, command: tuple[str, ...]) -> None:
    """Make a cloud, apply manifests, run COMMAND with KUBECONFIG set, and remove the cloud whatever happens.

    The exit code is the command's. KUBECONFIG has the context pilvi, and pilvi/NAMESPACE/NAME for each cluster of the manifests;
    PILVI_HOME is set too, so that pilvi's own commands reach this cloud.

    \b
    Example:
      sudo pilvi run -f cluster.yaml -- make test-e2e
    """
    from pilvi.cli import manifests
    from pilvi.cli.throwaway import run_in_cloud
    from pilvi.cli.up import parse_range
    from pilvi.host.cloud import check_range

    require_root("run")
    documents = manifests.read(files)
    network = parse_range(cidr)
    if network is not None:
        check_range(network)
    code = run_async(run_in_cloud(list(command), documents, network, machines, timeout_s, report))
    click.get_current_context().exit(code)
