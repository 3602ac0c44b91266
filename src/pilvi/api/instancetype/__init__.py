"""KubeVirt's instancetypes and preferences: machines by name."""

from pilvi.api.instancetype.instancetype import (
    VirtualMachineClusterInstancetype,
    VirtualMachineInstancetype,
    VirtualMachineInstancetypeSpec,
)
from pilvi.api.instancetype.preference import (
    ACROSS,
    TOPOLOGIES,
    VirtualMachineClusterPreference,
    VirtualMachinePreference,
    VirtualMachinePreferenceSpec,
)

__all__ = [
    "ACROSS",
    "TOPOLOGIES",
    "VirtualMachineClusterInstancetype",
    "VirtualMachineClusterPreference",
    "VirtualMachineInstancetype",
    "VirtualMachineInstancetypeSpec",
    "VirtualMachinePreference",
    "VirtualMachinePreferenceSpec",
]
