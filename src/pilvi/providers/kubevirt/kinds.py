"""Where the kinds live that these controllers read and write."""

from __future__ import annotations

from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import MigrationPolicy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration

__all__ = ["INSTANCES", "IPS", "MACHINES", "MIGRATIONS", "POLICIES", "SUBNETS", "TENANT_CONTROL_PLANES", "VPCS"]

MACHINES = VirtualMachine.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
MIGRATIONS = VirtualMachineInstanceMigration.RESOURCE
POLICIES = MigrationPolicy.RESOURCE
IPS = IP.RESOURCE
SUBNETS = Subnet.RESOURCE
VPCS = Vpc.RESOURCE
TENANT_CONTROL_PLANES = TenantControlPlane.RESOURCE
