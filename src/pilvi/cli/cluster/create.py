"""`pilvi cluster create`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import click

from pilvi.cli.options import cloud_option, name_home, namespace_option, parse_name, run_async, timeout_option

MEMORY = r"[1-9][0-9]*(Mi|Gi)"


def check_memory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The same form as in the ClusterClass, whose refusal would name no option; a test holds them together. Raises BadParameter."""
    if value is not None and re.fullmatch(MEMORY, value) is None:
        raise click.BadParameter(f"{value!r} is no size: a whole number above 0 with Mi or Gi, for example 512Mi or 2Gi")
    return value


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@namespace_option
@click.option("--workers", type=click.IntRange(min=0, max=1000), default=2, show_default=True, help="Number of worker machines.")
@click.option("--version", metavar="vX.Y.Z", help="Kubernetes version. Default: the newest of the kit.")
@click.option("--cpu", type=click.IntRange(min=1, max=256), help="Virtual CPUs of each worker. Default: 2.")
@click.option("--memory", metavar="SIZE", callback=check_memory, help="Memory of each worker, in Mi or Gi: 512Mi, 2Gi. Default: 1Gi.")
@click.option("--machine", type=click.Choice(["qemu", "sandbox"]), help="What runs the workers. Default: what the cloud was made with.")
@click.option("--subnet", help="Subnet of the workers. Default: a VPC and a Subnet of the cluster's own.")
@click.option("--image", help="Container disk of the workers. Default: the node image of their Kubernetes version.")
@click.option("--dry-run", is_flag=True, help="Print the Cluster that would be made; nothing is changed, and no cloud is asked.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Form of what --dry-run prints. Default: yaml.")
@click.option("--no-wait", is_flag=True, help="Return when the cluster is asked for.")
@timeout_option(600)
@cloud_option
def create(
    name: str,
    namespace: str | None,
    workers: int,
    version: str | None,
    dry_run: bool,
    output: str | None,
    no_wait: bool,
    timeout_s: float,
    home: Path,
    **variables: Any,
) -> None:
    """Create a cluster, wait until it can be used, and show how long each phase took.

    \b
    Example:
      pilvi cluster create first --workers 3 --memory 2Gi
      pilvi cluster create team-a/test --dry-run -o yaml | kubectl apply -f -
    """
    from pilvi import kit
    from pilvi.cli.cluster.form import build_cluster, check_name, check_version
    from pilvi.cli.output import print_documents

    if output and not dry_run:
        raise click.UsageError("-o is for what --dry-run prints")
    key = parse_name(name, namespace)
    check_name(key)
    cluster = build_cluster(key, check_version(version, kit.built_versions() or kit.kubernetes_versions()), workers, variables)
    if dry_run:
        print_documents([cluster], output or "yaml")
        return
    run_async(_create(home, cluster, timeout_s, wait=not no_wait))


async def _create(home: Path, cluster: dict[str, Any], timeout_s: float, *, wait: bool) -> None:
    from pilvi.api import Key
    from pilvi.api.builtin import CLUSTERS, NAMESPACES
    from pilvi.cli import contexts
    from pilvi.cli.cluster.ready import wait_ready
    from pilvi.cli.cluster.timeline import draw_timeline, read_timeline
    from pilvi.cli.connection import get_tenant, open_platform
    from pilvi.cli.manifests import MANAGER
    from pilvi.cli.progress import Waiting
    from pilvi.cli.typed import as_typed
    from pilvi.errors import AlreadyExists, NotFound, UserError
    from pilvi.lib.deadline import Deadline
    from pilvi.plane.world import read_world

    key = Key.of(cluster)
    deadline = Deadline(timeout_s)
    with Waiting() as waiting:
        async with open_platform(home, waiting) as client:
            try:
                await client.create(CLUSTERS, cluster, manager=MANAGER)
            except AlreadyExists:
                raise UserError(f"there is a cluster {key} already", hint=f"pilvi cluster describe {key}") from None
            except NotFound:
                if await client.find(NAMESPACES, Key("", key.namespace)) is None:
                    raise UserError(
                        f"there is no namespace {key.namespace}", hint=f"pilvi kubectl create namespace {key.namespace}"
                    ) from None
                raise
            if not wait:
                waiting.hide()
                click.echo(as_typed(f"Cluster {key} is asked for. pilvi cluster describe{name_home(home)} {key}"))
                return
            await wait_ready(client, key, waiting, deadline.left_s, home)
            context = contexts.merge_into_user(home, await get_tenant(client, key), str(key))
            lines = draw_timeline(await read_timeline(client, await read_world(client, key.namespace), key, home))
    for line in lines:
        click.echo(line)
    following = "kubectl get nodes" if shutil.which("kubectl") else f"pilvi kubectl{name_home(home)} --cluster {key} -- get nodes"
    click.echo(as_typed(f"Cluster {key} is ready; the current context is {context}. Next: {following}"))
