"""The Service that holds a control plane's cloud address. Pure.

Kamaji makes one of type LoadBalancer for each control plane; here `loadbalancer/` answers it with an address of the cloud's
range, and that address belongs to the control plane's own network namespace. So the Service has no selector, and its endpoint
is the control plane itself.
"""

from ipaddress import IPv4Address

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.providers.kamaji.names import MANAGER, NAME_LABEL, labels
from pilvi.providers.kamaji.tenantcontrolplane.plane import profile_of, spec_of
from pilvi.runtime import controller_key

__all__ = ["endpoint_slice", "find_service_taken", "service"]

PORT_NAME = "kube-apiserver"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


def service(tcp: TenantControlPlane, owner: JsonObject, *, recorded_endpoint: str | None) -> JsonObject:
    """The Service of `tcp`; `owner` is the owner reference to put on it.

    `recorded_endpoint` (`address:port`) is where the control plane was before: a Service that somebody deleted comes back with
    the same address, which every kubelet and kubeconfig of the cluster has in it.
    """
    spec = spec_of(tcp)
    profile, metadata = profile_of(spec), spec.control_plane.service.additional_metadata
    wanted: JsonObject = {
        "type": "LoadBalancer",
        "allocateLoadBalancerNodePorts": False,
        "ports": [{"name": PORT_NAME, "port": profile.port, "targetPort": profile.port, "protocol": "TCP"}],
    }
    address = profile.address or (recorded_endpoint or "").partition(":")[0]
    if address:
        wanted["loadBalancerIP"] = address
    return SERVICES.new(
        Key(tcp.metadata.namespace, tcp.metadata.name),
        metadata={
            "labels": {**(metadata.labels if metadata else {}), **labels(tcp.metadata.name, "service")},
            "annotations": dict(metadata.annotations) if metadata else {},
            "ownerReferences": [owner],
        },
        spec=wanted,
    )


def find_service_taken(stored: JsonObject | None, tenant: Key) -> str | None:
    """Why the TenantControlPlane cannot have its Service, given the one of that name (None: there is none); None when it can.

    One that a namesake left behind is its own, and so is one with Kamaji's label that lost its owner on the way here.
    """
    if stored is None or controller_key(stored, TenantControlPlane.RESOURCE) == tenant:
        return None
    if (stored["metadata"].get("labels") or {}).get(NAME_LABEL) == tenant.name:
        return None
    return f"Service {tenant} is in the way: the control plane needs one of its own name; delete it, or choose another name"


def endpoint_slice(tcp: TenantControlPlane, owner: JsonObject, address: IPv4Address) -> JsonObject:
    """The one endpoint behind the Service: the API server in its own network namespace."""
    return ENDPOINT_SLICES.new(
        Key(tcp.metadata.namespace, tcp.metadata.name),
        metadata={
            "labels": {**labels(tcp.metadata.name, "service"), "kubernetes.io/service-name": tcp.metadata.name, MANAGED_BY: MANAGER},
            "ownerReferences": [owner],
        },
        addressType="IPv4",
        endpoints=[{"addresses": [str(address)], "conditions": {"ready": True}}],
        ports=[{"name": PORT_NAME, "port": profile_of(spec_of(tcp)).port, "protocol": "TCP"}],
    )
