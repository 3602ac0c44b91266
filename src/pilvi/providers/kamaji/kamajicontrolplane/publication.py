"""How a control plane becomes known to Cluster API, in an order that is part of the contract.

The endpoint is written as soon as the control plane has its address, which nobody dials yet. Then: (a) the API server answers, (b)
kubeadm's ConfigMaps and RBAC are in the tenant, (c) the Secrets <cluster>-ca and <cluster>-kubeconfig are there, (d) the status of
KamajiControlPlane says version and initialized in one write, (e) the infrastructure cluster is provisioned, right after, so that Cluster
API sees both at once. It answers any other order with waits of 15 and 30 seconds. (f) MachineSets that met the control plane before it
was ready are woken, else they look again after 15 seconds only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import MACHINE_SETS, SECRETS
from pilvi.api.capk import KubevirtCluster
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.errors import Transient
from pilvi.kube import Client
from pilvi.providers.kamaji.kamajicontrolplane.status import Endpoint, is_managed, is_provisioned
from pilvi.providers.kamaji.names import CLUSTER_NAME_LABEL, CLUSTER_SECRET_TYPE, KUBECONFIG_KEY_ANNOTATION, MANAGER, labels
from pilvi.runtime import owner_reference

__all__ = [
    "STABLE_ANNOTATION",
    "patch_endpoint",
    "patch_infrastructure_endpoint",
    "publish_secrets",
    "say_provisioned",
    "wake_machine_sets",
]

STABLE_ANNOTATION = "pilvi.dev/control-plane-version"
"""On a MachineSet: the version at which it was told that the control plane is stable."""

DEFAULT_KUBECONFIG = "admin.conf"

FindSecret = Callable[[Key], JsonObject | None]


async def publish_secrets(client: Client, find_secret: FindSecret, control_plane: JsonObject, cluster: str) -> None:
    """Have the two Secrets that Cluster API looks for under the name of the Cluster. Raises Transient while their sources are not there.

    Where the control plane is called as the Cluster, <cluster>-ca is the TenantControlPlane's own Secret and is left alone.
    """
    key = Key.of(control_plane)
    annotations = control_plane["metadata"].get("annotations") or {}
    # `admin.svc` and `admin.conf` lead to the same address here.
    entry = annotations.get(KUBECONFIG_KEY_ANNOTATION) or DEFAULT_KUBECONFIG
    kubeconfig = _source(find_secret, Key(key.namespace, f"{key.name}-admin-kubeconfig"), entry)
    wanted = [_secret(control_plane, cluster, f"{cluster}-kubeconfig", {"value": kubeconfig})]
    if cluster != key.name:
        source = Key(key.namespace, f"{key.name}-ca")
        names = ("tls.crt", "tls.key", "ca.crt", "ca.key")
        wanted.append(_secret(control_plane, cluster, f"{cluster}-ca", {name: _source(find_secret, source, name) for name in names}))
    for secret in wanted:
        present = find_secret(Key.of(secret))
        if present is None or present.get("data") != secret["data"] or not _has_labels(present, secret):
            await client.apply(SECRETS, secret, manager=MANAGER)


async def patch_endpoint(client: Client, control_plane: JsonObject, endpoint: Endpoint) -> JsonObject:
    """The KamajiControlPlane with its endpoint in the spec; one that a person wrote there is kept."""
    if (control_plane["spec"].get("controlPlaneEndpoint") or {}).get("host"):
        return control_plane
    body = {"spec": {"controlPlaneEndpoint": {"host": endpoint.host, "port": endpoint.port}}}
    return await client.patch(KamajiControlPlane.RESOURCE, Key.of(control_plane), body, manager=MANAGER)


async def patch_infrastructure_endpoint(client: Client, infrastructure: JsonObject | None, endpoint: Endpoint) -> JsonObject | None:
    """The KubevirtCluster with its endpoint, if it is managed by its control plane; one that a person wrote there is kept."""
    if infrastructure is None or not _is_ours_to_write(infrastructure):
        return infrastructure
    if ((infrastructure.get("spec") or {}).get("controlPlaneEndpoint") or {}).get("host"):
        return infrastructure
    body = {"spec": {"controlPlaneEndpoint": {"host": endpoint.host, "port": endpoint.port}}}
    return await client.patch(KubevirtCluster.RESOURCE, Key.of(infrastructure), body, manager=MANAGER)


async def say_provisioned(client: Client, infrastructure: JsonObject | None) -> bool:
    """Say that a KubevirtCluster that is managed by its control plane is provisioned. Comes last. Returns whether that was news."""
    if infrastructure is None or not _is_ours_to_write(infrastructure) or is_provisioned(infrastructure):
        return False
    status = {"status": {"ready": True, "initialization": {"provisioned": True}}}
    await client.patch(KubevirtCluster.RESOURCE, Key.of(infrastructure), status, subresource="status", manager=MANAGER)
    return True


def _is_ours_to_write(infrastructure: JsonObject) -> bool:
    return is_managed(infrastructure) and not infrastructure["metadata"].get("deletionTimestamp")


async def wake_machine_sets(client: Client, machine_sets: Iterable[JsonObject], version: str) -> None:
    """Touch the MachineSets that lack machines, once for each version of the control plane.

    Cluster API's preflight checks make no machine before the control plane is stable, and nothing tells a MachineSet when it is.
    """
    for machine_set in machine_sets:
        annotations = machine_set["metadata"].get("annotations") or {}
        present = (machine_set.get("status") or {}).get("replicas") or 0
        if present < (machine_set["spec"].get("replicas") or 0) and annotations.get(STABLE_ANNOTATION) != version:
            body = {"metadata": {"annotations": {STABLE_ANNOTATION: version}}}
            await client.patch(MACHINE_SETS, Key.of(machine_set), body, manager=MANAGER)


def _secret(control_plane: JsonObject, cluster: str, name: str, data: dict[str, str]) -> JsonObject:
    key = Key.of(control_plane)
    metadata = {
        "labels": {**labels(key.name, "cluster-api"), CLUSTER_NAME_LABEL: cluster},
        "ownerReferences": [owner_reference(control_plane)],
    }
    return SECRETS.new(Key(key.namespace, name), metadata=metadata, type=CLUSTER_SECRET_TYPE, data=data)


def _source(find_secret: FindSecret, key: Key, entry: str) -> str:
    """One base64 value of a Secret of the TenantControlPlane."""
    data = (find_secret(key) or {}).get("data") or {}
    if not data.get(entry):
        raise Transient(f"Secret {key} has no {entry} yet", retry_after_s=1.0)
    value: str = data[entry]
    return value


def _has_labels(present: JsonObject, wanted: JsonObject) -> bool:
    have = present["metadata"].get("labels") or {}
    labels_wanted: dict[str, str] = wanted["metadata"]["labels"]
    return labels_wanted.items() <= have.items()
