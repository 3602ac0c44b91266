"""What Cluster API and clusterctl ask of a provider's kinds and what upstream's own definitions lack: the only place for such additions."""

from pilvi.api.resource import Resource

__all__ = ["ADDITIONS", "labels_of"]

_PROVIDERS = {
    "controlplane.cluster.x-k8s.io": "control-plane-kamaji",
    "infrastructure.cluster.x-k8s.io": "infrastructure-kubevirt",
}

ADDITIONS: dict[str, dict[str, str]] = {
    "kubevirtclusters.infrastructure.cluster.x-k8s.io": {
        "status.initialization": "the v1beta2 contract reads initialization.provisioned; upstream's file has only ready",
    },
    "kubevirtmachines.infrastructure.cluster.x-k8s.io": {
        "status.initialization": "the v1beta2 contract reads initialization.provisioned; upstream's file has only ready",
    },
    "kubevirtmachinetemplates.infrastructure.cluster.x-k8s.io": {
        "status": "the autoscaler reads status.capacity when it scales from zero",
    },
}
"""CRD name -> field path that upstream's schema lacks -> who needs it."""


def labels_of(resource: Resource) -> dict[str, str]:
    """Labels of the CRD: which contract which version keeps, and that `clusterctl move` moves the objects."""
    provider = _PROVIDERS.get(resource.group)
    if provider is None:
        return {}
    return {
        "cluster.x-k8s.io/provider": provider,
        "cluster.x-k8s.io/v1beta2": resource.version,
        "clusterctl.cluster.x-k8s.io": "",
    }
