"""Kamaji's kinds: control planes of clusters, and where they keep their data."""

from pilvi.api.kamaji.datastore import DataStore, DataStoreSpec, DataStoreStatus
from pilvi.api.kamaji.parts import CoreDNS, Kubelet, KubeProxy, ProcessResources
from pilvi.api.kamaji.status import TenantControlPlaneStatus
from pilvi.api.kamaji.tenantcontrolplane import (
    Addons,
    ComponentResources,
    ControlPlane,
    Deployment,
    ExtraArgs,
    Kubernetes,
    NetworkProfile,
    ServiceSpec,
    TenantControlPlane,
    TenantControlPlaneSpec,
)

__all__ = [
    "Addons",
    "ComponentResources",
    "ControlPlane",
    "CoreDNS",
    "DataStore",
    "DataStoreSpec",
    "DataStoreStatus",
    "Deployment",
    "ExtraArgs",
    "KubeProxy",
    "Kubelet",
    "Kubernetes",
    "NetworkProfile",
    "ProcessResources",
    "ServiceSpec",
    "TenantControlPlane",
    "TenantControlPlaneSpec",
    "TenantControlPlaneStatus",
]
