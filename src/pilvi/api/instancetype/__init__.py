"""KubeVirt's instancetypes and preferences: machines by name."""

from pilvi.api.instancetype.instancetype import VirtualMachineClusterInstancetype, VirtualMachineInstancetype
from pilvi.api.instancetype.preference import ACROSS, TOPOLOGIES, VirtualMachineClusterPreference, VirtualMachinePreference

__all__ = [
    "ACROSS",
    "TOPOLOGIES",
    "VirtualMachineClusterInstancetype",
    "VirtualMachineClusterPreference",
    "VirtualMachineInstancetype",
    "VirtualMachinePreference",
]
