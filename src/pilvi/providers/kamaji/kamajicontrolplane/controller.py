"""The controller of KamajiControlPlane: Cluster API's control plane contract on top of a TenantControlPlane."""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINE_SETS, SECRETS
from pilvi.api.capk import KubevirtCluster
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.object import decode
from pilvi.errors import Forbidden, Invalid, UserError, format_chain
from pilvi.lib.versions import normalize
from pilvi.providers.kamaji.kamajicontrolplane.publication import (
    patch_endpoint,
    patch_infrastructure_endpoint,
    publish_secrets,
    say_provisioned,
    wake_machine_sets,
)
from pilvi.providers.kamaji.kamajicontrolplane.status import Scope, compute_status, find_endpoint, is_initialized, paused_status
from pilvi.providers.kamaji.kamajicontrolplane.tenant import find_tenant_taken, tenant_control_plane
from pilvi.providers.kamaji.names import (
    CLUSTER_NAME_LABEL,
    CONTROL_PLANE_FINALIZER,
    MANAGER,
    PAUSED_ANNOTATION,
    PROJECT_LABEL,
)
from pilvi.providers.platform import Platform
from pilvi.runtime import (
    Controller,
    Done,
    Failed,
    Result,
    Waiting,
    Watch,
    controller_key,
    ensure_finalizer,
    has_finalizer,
    is_controlled_by,
    is_deleting,
    remove_finalizer,
)

__all__ = ["KamajiControlPlanes", "controller"]

RESOURCE = KamajiControlPlane.RESOURCE


class KamajiControlPlanes:
    """Reconciles KamajiControlPlanes."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        informers = platform.informers
        self._control_planes = informers.get(RESOURCE)
        self._tenants = informers.get(TenantControlPlane.RESOURCE)
        self._clusters = informers.get(CLUSTERS)
        self._infrastructures = informers.get(KubevirtCluster.RESOURCE)
        self._machine_sets = informers.get(MACHINE_SETS)
        self._secrets = informers.get(SECRETS, labels={PROJECT_LABEL: "kamaji"})

    async def reconcile(self, key: Key) -> Result:
        """Bring one control plane closer to what its object and its Cluster say."""
        control_plane = self._control_planes.get(key)
        if control_plane is None:
            return Done()
        cluster = self._find_cluster(control_plane)
        if paused := _paused(control_plane, cluster):
            await self._write_status(control_plane, paused_status(control_plane, paused))
            return Done()
        if is_deleting(control_plane):
            return await self._end(control_plane)
        if cluster is None:
            return Waiting("WaitingForCluster", "no Cluster owns this KamajiControlPlane; name it in a Cluster's spec.controlPlaneRef")
        control_plane = await ensure_finalizer(self._platform.client, RESOURCE, control_plane, CONTROL_PLANE_FINALIZER)
        scope = Scope(control_plane=control_plane, cluster=cluster, infrastructure=self._find_infrastructure(cluster))
        result = await self._ensure_tenant(scope)
        endpoint, client = find_endpoint(scope.tenant), self._platform.client
        initialized = endpoint is not None and is_initialized(scope)
        if endpoint is not None:
            # As soon as it is known: Cluster API looks at a Cluster once a second, and a write just before the status would use that up.
            scope.control_plane = await patch_endpoint(client, scope.control_plane, endpoint)
            scope.infrastructure = await patch_infrastructure_endpoint(client, scope.infrastructure, endpoint)
        if initialized:
            await publish_secrets(client, self._secrets.get, control_plane, cluster["metadata"]["name"])
        await self._write_status(scope.control_plane, compute_status(scope))
        if endpoint is not None and initialized and await say_provisioned(client, scope.infrastructure):
            message = f"Cluster {cluster['metadata']['name']} has its API server at {endpoint.host}:{endpoint.port}"
            self._platform.events.record(control_plane, "Normal", "Initialized", message)
        await self._wake_machine_sets(scope)
        return result

    async def _wake_machine_sets(self, scope: Scope) -> None:
        """Once Cluster API itself has seen that the control plane is stable: before that a MachineSet would only meet the same check."""
        status = scope.control_plane.get("status") or {}
        seen = ((scope.cluster.get("status") or {}).get("initialization") or {}).get("controlPlaneInitialized")
        if not seen or normalize(status.get("version") or "") != normalize(scope.control_plane["spec"]["version"]):
            return
        key = Key.of(scope.cluster)
        of_cluster = (
            machine_set for machine_set in self._machine_sets.list(key.namespace) if machine_set["spec"].get("clusterName") == key.name
        )
        await wake_machine_sets(self._platform.client, of_cluster, status["version"])

    async def _ensure_tenant(self, scope: Scope) -> Result:
        """Apply the TenantControlPlane; what the API refuses is told in the scope."""
        key = Key.of(scope.control_plane)
        present = self._tenants.get(key)
        scope.refused = find_tenant_taken(present, scope.control_plane)
        if scope.refused is not None:
            return Failed(scope.refused, permanent=True)
        typed = decode(KamajiControlPlane, scope.control_plane)
        try:
            wanted = tenant_control_plane(scope.control_plane, typed, scope.cluster, scope.infrastructure)
            scope.tenant = await self._platform.client.apply(TenantControlPlane.RESOURCE, wanted, manager=MANAGER)
        except (UserError, Invalid, Forbidden) as e:
            scope.tenant = present
            scope.refused = format_chain(e)
            self._platform.events.record(scope.control_plane, "Warning", "TenantControlPlaneRefused", scope.refused)
            return Failed(scope.refused)
        return Done()

    async def _end(self, control_plane: JsonObject) -> Result:
        """Delete the TenantControlPlane and wait until it is gone."""
        if not has_finalizer(control_plane, CONTROL_PLANE_FINALIZER):
            return Done()
        key = Key.of(control_plane)
        tenant = self._tenants.get(key)
        if tenant is not None and is_controlled_by(tenant, control_plane):
            if not is_deleting(tenant):
                await self._platform.client.ensure_absent(TenantControlPlane.RESOURCE, key, uid=tenant["metadata"]["uid"])
            return Waiting("TenantControlPlaneDeleting", f"TenantControlPlane {key} is being deleted")
        await remove_finalizer(self._platform.client, RESOURCE, control_plane, CONTROL_PLANE_FINALIZER)
        return Done()

    async def _write_status(self, control_plane: JsonObject, status: JsonObject) -> None:
        if status == control_plane.get("status"):
            return
        metadata = {name: control_plane["metadata"][name] for name in ("name", "namespace", "uid")}
        await self._platform.client.apply_status(RESOURCE, {"metadata": metadata, "status": status}, manager=MANAGER)

    def _find_cluster(self, control_plane: JsonObject) -> JsonObject | None:
        """The Cluster that owns the control plane, or is about to: Cluster API writes the owner a second or two after the reference."""
        metadata = control_plane["metadata"]
        for reference in metadata.get("ownerReferences") or ():
            if reference["kind"] == CLUSTERS.kind and reference["apiVersion"].partition("/")[0] == CLUSTERS.group:
                return self._clusters.get(Key(metadata["namespace"], reference["name"]))
        name = (metadata.get("labels") or {}).get(CLUSTER_NAME_LABEL)
        cluster = self._clusters.get(Key(metadata["namespace"], name)) if name else None
        return cluster if cluster is not None and Key.of(control_plane) in _control_planes_of(cluster) else None

    def _find_infrastructure(self, cluster: JsonObject) -> JsonObject | None:
        reference = cluster["spec"].get("infrastructureRef") or {}
        if reference.get("kind") != KubevirtCluster.RESOURCE.kind or not reference.get("name"):
            return None
        return self._infrastructures.get(Key(cluster["metadata"]["namespace"], reference["name"]))


def controller(platform: Platform) -> Controller:
    """The controller, woken by its TenantControlPlanes and Secrets, its Cluster and the infrastructure cluster."""
    reconciler = KamajiControlPlanes(platform)
    clusters = platform.informers.get(CLUSTERS)

    def of_infrastructure(infrastructure: JsonObject) -> Iterable[Key]:
        name = (infrastructure["metadata"].get("labels") or {}).get(CLUSTER_NAME_LABEL)
        cluster = clusters.get(Key(infrastructure["metadata"]["namespace"], name)) if name else None
        return _control_planes_of(cluster) if cluster is not None else ()

    def of_secret(secret: JsonObject) -> Iterable[Key]:
        """What is published, and the TenantControlPlane's own that it is made of; both kinds are called alike."""
        keys = (controller_key(secret, RESOURCE), controller_key(secret, TenantControlPlane.RESOURCE))
        return [key for key in keys if key is not None]

    return Controller(
        "kamajicontrolplane",
        RESOURCE,
        reconciler.reconcile,
        owns=[TenantControlPlane.RESOURCE],
        watches=[
            Watch(CLUSTERS, _control_planes_of),
            Watch(KubevirtCluster.RESOURCE, of_infrastructure),
            # One of the same name that is not ours is in the way until it goes.
            Watch(TenantControlPlane.RESOURCE, lambda tenant: [Key.of(tenant)], lambda _old, _new: False),
            Watch(SECRETS, of_secret, labels={PROJECT_LABEL: "kamaji"}),
        ],
    )


def _control_planes_of(cluster: JsonObject) -> list[Key]:
    reference = (cluster.get("spec") or {}).get("controlPlaneRef") or {}
    if reference.get("kind") != RESOURCE.kind or not reference.get("name"):
        return []
    return [Key(cluster["metadata"]["namespace"], reference["name"])]


def _paused(control_plane: JsonObject, cluster: JsonObject | None) -> str | None:
    """Why nothing may be done now, or None. As in Cluster API a paused object is not deleted either."""
    if cluster is not None and cluster["spec"].get("paused"):
        return f"spec.paused of Cluster {cluster['metadata']['name']} is set"
    if PAUSED_ANNOTATION in (control_plane["metadata"].get("annotations") or {}):
        return f"the annotation {PAUSED_ANNOTATION} is set"
    return None
