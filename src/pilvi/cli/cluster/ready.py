"""Waiting for clusters: until one can be used, until one is gone; a time-out tells why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, DEPLOYMENTS, MACHINE_DEPLOYMENTS
from pilvi.cli.connection import find_units, get_tenant, parse
from pilvi.errors import ApiUnreachable, NotFound, PilviError, TimedOut, Transient, UserError, format_chain
from pilvi.kube import Client
from pilvi.lib.deadline import wait_for, within
from pilvi.plane.timeline import COREDNS
from pilvi.plane.why import explain_object
from pilvi.runtime import find_condition, is_true

if TYPE_CHECKING:
    from pilvi.cli.progress import Waiting

__all__ = ["wait_gone", "wait_ready"]

_POLL_S = 0.2
_EXPLAIN_S = 5.0
_CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"
# The order in which a cluster becomes ready, and what a person calls it.
_STEPS = {
    "TopologyReconciled": "its objects",
    "InfrastructureReady": "its network and API server",
    "ControlPlaneInitialized": "its API server",
    "ControlPlaneAvailable": "its control plane",
    "WorkersAvailable": "its workers to be Ready",
    "RemoteConnectionProbe": "Cluster API to reach it",
    "Available": "Cluster API to call it available",
}


async def wait_ready(client: Client, cluster: Key, waiting: Waiting, timeout_s: float, home: Path) -> None:
    """Wait until the API server answers, all wanted workers are Ready and DNS is up. Raises TimedOut with the reason."""
    awaited = "its API server"
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            while pending := await _find_pending(client, cluster):
                awaited = pending
                waiting.show(f"cluster {cluster}: {awaited}")
                await asyncio.sleep(_POLL_S)
            awaited = "DNS"
            waiting.show(f"cluster {cluster}: {awaited}")
            await _wait_dns(client, cluster)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise TimedOut(f"cluster {cluster}: {awaited}\n{await _explain(client, cluster, home)}", timeout_s) from None
    finally:
        waiting.hide()


async def wait_gone(client: Client, cluster: Key, waiting: Waiting, timeout_s: float, home: Path) -> None:
    """Wait until the Cluster and so all that it owned is gone. Raises TimedOut with the reason."""
    waiting.show(f"cluster {cluster} to go")

    async def is_gone() -> bool:
        try:
            return await client.find(CLUSTERS, cluster) is None
        except Transient:
            return False  # the platform's API server may be restarting

    try:
        await wait_for(is_gone, timeout_s, "", interval_s=_POLL_S)
    except TimedOut:
        raise TimedOut(f"cluster {cluster} to go\n{await _explain(client, cluster, home)}", timeout_s) from None
    finally:
        waiting.hide()


async def _find_pending(client: Client, key: Key) -> str | None:
    """What the cluster waits for; None when it is ready."""
    try:
        cluster = await client.get(CLUSTERS, key)
        if cluster["metadata"].get("deletionTimestamp"):
            raise UserError(f"cluster {key} is being deleted", hint=f"pilvi why cluster/{key}")
        for type, text in _STEPS.items():
            if find_condition(cluster, type) is None and type == "TopologyReconciled" and "topology" not in cluster["spec"]:
                continue
            if not is_true(cluster, type):
                return text
        return await _find_unfinished(client, cluster)
    except Transient:
        return "the platform's API to answer"
    except NotFound as e:
        raise UserError(f"there is no cluster {key}", hint="pilvi cluster list") from e


async def _find_unfinished(client: Client, cluster: JsonObject) -> str | None:
    """A cluster stays Available while it is being scaled, so the replicas are looked at as well."""
    key = Key.of(cluster)
    wanted = {
        worker["name"]: worker.get("replicas")
        for worker in ((cluster["spec"].get("topology") or {}).get("workers") or {}).get("machineDeployments") or []
    }
    found = await client.list(MACHINE_DEPLOYMENTS, namespace=key.namespace, labels={_CLUSTER_NAME: key.name})
    for deployment in found:
        spec, status = deployment["spec"], deployment.get("status") or {}
        name = (deployment["metadata"].get("labels") or {}).get("topology.cluster.x-k8s.io/deployment-name")
        replicas = wanted.get(name)
        replicas = spec.get("replicas", 1) if replicas is None else replicas
        numbers = [status.get(field, 0) for field in ("replicas", "availableReplicas", "upToDateReplicas")]
        if numbers != [replicas] * 3 or spec.get("replicas", 1) != replicas:
            return (
                f"its workers to be Ready ({min(numbers)}/{replicas})"
                if numbers[0] <= replicas
                else f"workers to go ({numbers[0]}/{replicas})"
            )
    return None if len(found) >= len(wanted) else _STEPS["WorkersAvailable"]


async def _wait_dns(client: Client, cluster: Key) -> None:
    """Until CoreDNS is available, where the cluster has it and has a worker that can run it. Both APIs may be restarting meanwhile."""
    while True:
        try:
            if await _has_dns(client, cluster):
                return
        except Transient:
            pass  # the deadline is the caller's
        await asyncio.sleep(_POLL_S)


async def _has_dns(client: Client, cluster: Key) -> bool:
    deployments = await client.list(MACHINE_DEPLOYMENTS, namespace=cluster.namespace, labels={_CLUSTER_NAME: cluster.name})
    if not any((deployment.get("status") or {}).get("replicas") for deployment in deployments):
        return True
    async with Client.open(parse(await get_tenant(client, cluster)), timeout_s=5) as tenant:
        coredns = await tenant.find(DEPLOYMENTS, COREDNS)
        return coredns is None or is_true(coredns, "Available")


async def _explain(client: Client, cluster: Key, home: Path) -> str:
    """The reason, for the text of a time-out. It never raises: what was waited for has to be told in any case."""
    try:
        return (await within(_EXPLAIN_S, explain_object(client, CLUSTERS, cluster, find_units(home)), "the reason")).text()
    except (ApiUnreachable, TimedOut):
        return "The platform's API does not answer; see `pilvi status`."
    except NotFound:
        return "It is gone."
    except PilviError as e:
        return f"Why, cannot be told: {format_chain(e)}"
