"""The status of a KubevirtCluster. Pure.

`ready` and `initialization.provisioned` have two writers: where the annotation `cluster.x-k8s.io/managed-by` is set, the control
plane's provider writes them together with the endpoint, and here they are only begun with false.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pilvi.api import JsonObject
from pilvi.providers.capk.contract import capk_condition, merge_capk_conditions
from pilvi.providers.capk.names import MANAGED_BY

__all__ = ["Network", "paused_status", "plan_status"]


@dataclass(frozen=True)
class Network:
    """How far the cluster's network is: `problem` is a sentence for people, None when machines can be attached.

    `reason` is that of the NetworkReady condition.
    """

    reason: str
    problem: str | None = None


def paused_status(cluster: JsonObject, now: datetime) -> JsonObject:
    """`status` of a KubevirtCluster that is paused: as it was, nobody has looked."""
    paused = capk_condition("Paused", True, "Paused", "the Cluster or this object is paused")
    return {**(cluster.get("status") or {}), "conditions": merge_capk_conditions(cluster, [paused], now)}


def plan_status(cluster: JsonObject, network: Network, now: datetime, *, deleting: bool = False) -> JsonObject:
    """`status` of the KubevirtCluster after one pass."""
    old = cluster.get("status") or {}
    managed = MANAGED_BY in (cluster["metadata"].get("annotations") or {})
    endpoint = ((cluster.get("spec") or {}).get("controlPlaneEndpoint")) or {}
    has_endpoint = bool(endpoint.get("host")) and bool(endpoint.get("port"))
    status = dict(old)
    if managed:
        status["ready"] = bool(old.get("ready"))
    else:
        # Provisioned never goes back (Cluster API's contract); ready says how it is now.
        status["ready"] = has_endpoint and network.problem is None
        if status["ready"] or (old.get("initialization") or {}).get("provisioned"):
            status["initialization"] = {"provisioned": True}
    conditions = [
        _network(network),
        _endpoint(managed=managed, has_endpoint=has_endpoint),
        _ready(network, managed=managed, has_endpoint=has_endpoint, deleting=deleting),
        capk_condition("Paused", False, "NotPaused"),
    ]
    status["conditions"] = merge_capk_conditions(cluster, conditions, now)
    return status


def _network(network: Network) -> JsonObject:
    return capk_condition("NetworkReady", network.problem is None, network.reason, network.problem or "")


def _endpoint(*, managed: bool, has_endpoint: bool) -> JsonObject:
    if has_endpoint:
        return capk_condition("LoadBalancerAvailable", True, "EndpointKnown")
    return capk_condition("LoadBalancerAvailable", False, *_awaited_endpoint(managed=managed))


def _ready(network: Network, *, managed: bool, has_endpoint: bool, deleting: bool) -> JsonObject:
    if deleting:
        return capk_condition("Ready", False, "Deleting", network.problem or "the cluster's network is being removed")
    if network.problem is not None:
        return capk_condition("Ready", False, network.reason, network.problem)
    if not has_endpoint:
        return capk_condition("Ready", False, *_awaited_endpoint(managed=managed))
    return capk_condition("Ready", True, "Provisioned")


def _awaited_endpoint(*, managed: bool) -> tuple[str, str]:
    if managed:
        return "WaitingForControlPlane", "the control plane provider writes the endpoint as soon as it has an address"
    return (
        "WaitingForEndpoint",
        "no endpoint: set annotation cluster.x-k8s.io/managed-by to kamaji for a hosted control plane, or write spec.controlPlaneEndpoint",
    )
