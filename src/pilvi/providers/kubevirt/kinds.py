"""Where the kinds live that these controllers read and write."""

from __future__ import annotations

from pilvi.api.cdi import DataVolume
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance

__all__ = ["DATA_VOLUMES", "INSTANCES", "IPS", "MACHINES", "SUBNETS", "TENANT_CONTROL_PLANES", "VPCS"]

MACHINES = VirtualMachine.RESOURCE
DATA_VOLUMES = DataVolume.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
IPS = IP.RESOURCE
SUBNETS = Subnet.RESOURCE
VPCS = Vpc.RESOURCE
TENANT_CONTROL_PLANES = TenantControlPlane.RESOURCE
