"""All custom resource definitions and admission policies of pilvi, in the order in which they are printed and installed."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from pilvi.api.capk import KubevirtCluster, KubevirtClusterTemplate, KubevirtMachine, KubevirtMachineTemplate
from pilvi.api.cdi import (
    CDIConfig,
    DataImportCron,
    DataSource,
    DataVolume,
    StorageProfile,
    VolumeCloneSource,
    VolumeImportSource,
    VolumeUploadSource,
)
from pilvi.api.clone import VirtualMachineClone
from pilvi.api.cluster import cluster_policies
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.controlplane import KamajiControlPlane, KamajiControlPlaneTemplate
from pilvi.api.crd import crd_of
from pilvi.api.export import VirtualMachineExport
from pilvi.api.instancetype import (
    VirtualMachineClusterInstancetype,
    VirtualMachineClusterPreference,
    VirtualMachineInstancetype,
    VirtualMachinePreference,
)
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import (
    MigrationPolicy,
    VirtualMachine,
    VirtualMachineInstance,
    VirtualMachineInstanceMigration,
    VirtualMachineInstanceReplicaSet,
)
from pilvi.api.object import Object
from pilvi.api.policies import policies_of
from pilvi.api.resource import JsonObject
from pilvi.api.snapshot import VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent
from pilvi.api.volumesnapshot import VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent

__all__ = ["KINDS", "all_crds", "all_policies"]

KINDS: tuple[type[Object], ...] = (
    KamajiControlPlane,
    KamajiControlPlaneTemplate,
    TenantControlPlane,
    DataStore,
    KubevirtCluster,
    KubevirtClusterTemplate,
    KubevirtMachine,
    KubevirtMachineTemplate,
    VirtualMachine,
    VirtualMachineInstance,
    VirtualMachineInstanceReplicaSet,
    VirtualMachineInstancetype,
    VirtualMachineClusterInstancetype,
    VirtualMachinePreference,
    VirtualMachineClusterPreference,
    VirtualMachineSnapshot,
    VirtualMachineSnapshotContent,
    VirtualMachineRestore,
    VirtualMachineClone,
    VirtualMachineExport,
    VirtualMachineInstanceMigration,
    MigrationPolicy,
    Vpc,
    Subnet,
    IP,
    NetworkAttachmentDefinition,
    DataVolume,
    DataSource,
    DataImportCron,
    StorageProfile,
    CDIConfig,
    VolumeImportSource,
    VolumeCloneSource,
    VolumeUploadSource,
    VolumeSnapshotClass,
    VolumeSnapshot,
    VolumeSnapshotContent,
)


def all_crds() -> list[JsonObject]:
    """The CustomResourceDefinitions of all kinds that pilvi serves."""
    return [crd_of(kind) for kind in KINDS]


def all_policies(kubernetes_versions: Sequence[str], cloud: Mapping[str, IPv4Network] | None = None) -> list[JsonObject]:
    """The ValidatingAdmissionPolicies and their bindings.

    `kubernetes_versions` are those that clusters may have, such as v1.37.2; `cloud` the ranges that they may not, by name.
    """
    own = [policy for kind in KINDS for policy in policies_of(kind, kubernetes_versions)]
    return [*own, *cluster_policies(kubernetes_versions, cloud or {})]
