"""The status of a KamajiControlPlane, computed from the objects that one reconcile read. Pure.

Types of conditions are those of Kamaji's Cluster API provider; `Available` and `Paused` are Cluster API's contract.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from pilvi.api import JsonObject
from pilvi.lib.clock import utc_now
from pilvi.providers.kamaji.names import MANAGED_BY_ANNOTATION
from pilvi.providers.kamaji.tenantcontrolplane.status import find_deployment_condition, installed_version
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["Endpoint", "Scope", "compute_status", "find_endpoint", "is_initialized", "paused_status"]


class Endpoint(msgspec.Struct, frozen=True):
    """Where an API server answers."""

    host: str
    port: int


class Scope(msgspec.Struct, kw_only=True):
    """The objects around one KamajiControlPlane; None where there is none yet. `refused` is why the API took no TenantControlPlane."""

    control_plane: JsonObject
    cluster: JsonObject
    infrastructure: JsonObject | None = None
    tenant: JsonObject | None = None
    refused: str | None = None


def find_endpoint(tenant: JsonObject | None) -> Endpoint | None:
    """The address and port of the TenantControlPlane, once it has them."""
    host, colon, port = (((tenant or {}).get("status") or {}).get("controlPlaneEndpoint") or "").rpartition(":")
    return Endpoint(host, int(port)) if colon else None


def is_initialized(scope: Scope) -> bool:
    """Whether everything that a joining node needs is there; stays true once it was."""
    before = ((scope.control_plane.get("status") or {}).get("initialization") or {}).get("controlPlaneInitialized")
    return bool(before) or (scope.tenant is not None and installed_version(scope.tenant) is not None)


def is_provisioned(infrastructure: JsonObject | None) -> bool:
    """Whether the infrastructure cluster has its endpoint and says that it is ready."""
    spec, status = (infrastructure or {}).get("spec") or {}, (infrastructure or {}).get("status") or {}
    provisioned = bool((status.get("initialization") or {}).get("provisioned")) and bool(status.get("ready"))
    return provisioned and bool((spec.get("controlPlaneEndpoint") or {}).get("host"))


def is_managed(infrastructure: JsonObject | None) -> bool:
    """Whether the infrastructure cluster leaves its endpoint to its control plane."""
    return MANAGED_BY_ANNOTATION in (((infrastructure or {}).get("metadata") or {}).get("annotations") or {})


def compute_status(scope: Scope, *, now: datetime | None = None) -> JsonObject:
    """The whole status, ready to be written in one go."""
    tenant, moment = scope.tenant, now or utc_now()
    old: JsonObject = scope.control_plane.get("status") or {}
    resources: JsonObject = ((tenant or {}).get("status") or {}).get("kubernetesResources") or {}
    deployment: JsonObject = resources.get("deployment") or {}
    ready = (resources.get("version") or {}).get("status") == "Ready"
    available = bool(deployment.get("readyReplicas"))
    initialized = is_initialized(scope)
    status: JsonObject = {
        "ready": ready,
        "version": installed_version(tenant) or "" if tenant else old.get("version", ""),
        "externalManagedControlPlane": True,
        "initialization": {"controlPlaneInitialized": initialized},
        "replicas": deployment.get("replicas", 0),
        "readyReplicas": deployment.get("readyReplicas", 0),
        "availableReplicas": deployment.get("availableReplicas", 0),
        "upToDateReplicas": deployment.get("updatedReplicas", 0) if ready else 0,
        "selector": deployment.get("selector", ""),
        "conditions": merge_conditions(conditions_of(scope.control_plane), _conditions(scope, initialized, ready, available), now=moment),
    }
    return status


def paused_status(control_plane: JsonObject, reason: str) -> JsonObject:
    """The status of a paused control plane: as it was, and Paused says why."""
    old: JsonObject = control_plane.get("status") or {"ready": False, "version": "", "externalManagedControlPlane": True}
    paused = condition("Paused", True, "Paused", f"{reason}; nothing is done for this control plane until that is undone")
    return {**old, "conditions": merge_conditions(old.get("conditions"), [paused])}


def _conditions(scope: Scope, initialized: bool, ready: bool, available: bool) -> list[JsonObject]:
    tenant = scope.tenant
    generation = scope.control_plane["metadata"].get("generation")
    created = (
        condition("TenantControlPlaneCreated", True, "TenantControlPlaneCreated", observed_generation=generation)
        if scope.refused is None and tenant is not None
        else condition("TenantControlPlaneCreated", False, "TenantControlPlaneRefused", scope.refused or "waiting for the API server")
    )
    endpoint = find_endpoint(tenant)
    trouble = find_deployment_condition(tenant, "Progressing") if tenant else None
    reason, message = ("ControlPlaneStarting", "the control plane is starting")
    if trouble is not None and trouble["status"] == "False":
        reason, message = trouble["reason"], trouble["message"]
    # All is well, and yet there is something to do.
    outdated = trouble["message"] if trouble is not None and trouble["reason"] == "UpgradeDue" else ""
    phase = (tenant or {}).get("status") or {}
    inside = bool(((phase.get("kubeadmPhase") or {}).get("bootstrapToken") or {}).get("checksum"))
    patched = bool((scope.control_plane["spec"].get("controlPlaneEndpoint") or {}).get("host"))
    wanted = scope.control_plane["spec"].get("replicas", 2)

    def state(type: str, good: bool, good_reason: str) -> JsonObject:
        return condition(type, good, good_reason if good else reason, "" if good else message)

    return [
        created,
        state("TenantControlPlaneAddressReady", endpoint is not None, "AddressAssigned"),
        state("ControlPlaneEndpointPatched", patched, "EndpointPatched"),
        _infrastructure(scope),
        state("KubeadmResourcesCreated", inside, "KubeadmResourcesCreated"),
        state("KamajiControlPlaneIsInitialized", initialized, "ControlPlaneInitialized"),
        condition("KamajiControlPlaneIsReady", True, "ControlPlaneReady", outdated)
        if ready
        else state("KamajiControlPlaneIsReady", False, ""),
        state("Available", initialized and available, "Available"),
        condition("ReplicasLimited", wanted > 1, "OneReplicaOnly", f"{wanted} replicas are wanted; one runs, which is what pilvi has today")
        if wanted > 1
        else condition("ReplicasLimited", False, "AsWanted"),
        condition("Paused", False, "NotPaused"),
    ]


def _infrastructure(scope: Scope) -> JsonObject:
    type, infrastructure = "InfrastructureClusterPatched", scope.infrastructure
    if infrastructure is None:
        reference = scope.cluster["spec"].get("infrastructureRef") or {}
        name = f"{reference.get('kind', 'infrastructure cluster')} {reference.get('name', '')}".strip()
        return condition(type, False, "InfrastructureClusterMissing", f"waiting for {name}, which the Cluster names; apply it")
    kind, name = infrastructure["kind"], infrastructure["metadata"]["name"]
    if is_provisioned(infrastructure):
        return condition(type, True, "InfrastructureClusterPatched")
    if not is_managed(infrastructure):
        message = f"{kind} {name} lacks the annotation {MANAGED_BY_ANNOTATION}: kamaji; add it, so that the endpoint is written there"
        return condition(type, False, "InfrastructureClusterNotManaged", message)
    return condition(type, False, "WaitingForControlPlane", f"{kind} {name} gets the endpoint when the control plane is initialized")
