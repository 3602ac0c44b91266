"""Where the kinds live that these controllers read and write."""

from __future__ import annotations

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS
from pilvi.api.cdi import DataVolume
from pilvi.api.instancetype import (
    VirtualMachineClusterInstancetype,
    VirtualMachineClusterPreference,
    VirtualMachineInstancetype,
    VirtualMachinePreference,
)
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import (
    MigrationPolicy,
    VirtualMachine,
    VirtualMachineInstance,
    VirtualMachineInstanceMigration,
    VirtualMachineInstanceReplicaSet,
)

__all__ = [
    "CLAIMS",
    "CLUSTER_INSTANCETYPES",
    "CLUSTER_PREFERENCES",
    "DATA_VOLUMES",
    "INSTANCES",
    "INSTANCETYPES",
    "IPS",
    "MACHINES",
    "MIGRATIONS",
    "POLICIES",
    "PREFERENCES",
    "REPLICA_SETS",
    "SUBNETS",
    "TENANT_CONTROL_PLANES",
    "VPCS",
]

MACHINES = VirtualMachine.RESOURCE
DATA_VOLUMES = DataVolume.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
REPLICA_SETS = VirtualMachineInstanceReplicaSet.RESOURCE
INSTANCETYPES = VirtualMachineInstancetype.RESOURCE
CLUSTER_INSTANCETYPES = VirtualMachineClusterInstancetype.RESOURCE
PREFERENCES = VirtualMachinePreference.RESOURCE
CLUSTER_PREFERENCES = VirtualMachineClusterPreference.RESOURCE
MIGRATIONS = VirtualMachineInstanceMigration.RESOURCE
POLICIES = MigrationPolicy.RESOURCE
IPS = IP.RESOURCE
SUBNETS = Subnet.RESOURCE
VPCS = Vpc.RESOURCE
TENANT_CONTROL_PLANES = TenantControlPlane.RESOURCE
CLAIMS = PERSISTENT_VOLUME_CLAIMS
DATA_VOLUMES = DataVolume.RESOURCE
