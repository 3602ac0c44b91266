"""Where the kinds live that these controllers read and write."""

from __future__ import annotations

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS
from pilvi.api.cdi import DataVolume
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance

__all__ = ["CLAIMS", "DATA_VOLUMES", "INSTANCES", "IPS", "MACHINES", "SUBNETS", "TENANT_CONTROL_PLANES", "VPCS"]

MACHINES = VirtualMachine.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
IPS = IP.RESOURCE
SUBNETS = Subnet.RESOURCE
VPCS = Vpc.RESOURCE
TENANT_CONTROL_PLANES = TenantControlPlane.RESOURCE
CLAIMS = PERSISTENT_VOLUME_CLAIMS
DATA_VOLUMES = DataVolume.RESOURCE
