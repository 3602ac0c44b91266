"""KubeVirt's kinds: virtual machines and their runs."""

from pilvi.api.kubevirt.devices import Devices, Disk, DiskTarget, Interface
from pilvi.api.kubevirt.domain import Cpu, Domain, Memory, Resources
from pilvi.api.kubevirt.instance import VirtualMachineInstance, VirtualMachineInstanceSpec, VirtualMachineInstanceTemplate
from pilvi.api.kubevirt.instance_status import (
    InterfaceStatus,
    MachineCondition,
    PhaseTransitionTimestamp,
    VirtualMachineInstanceStatus,
    VolumeStatus,
)
from pilvi.api.kubevirt.machine import StartFailure, StateChangeRequest, VirtualMachine, VirtualMachineSpec, VirtualMachineStatus
from pilvi.api.kubevirt.migration import MigrationPolicy, VirtualMachineInstanceMigration
from pilvi.api.kubevirt.replicaset import VirtualMachineInstanceReplicaSet
from pilvi.api.kubevirt.volumes import CloudInit, ContainerDisk, Network, PodNetwork, Volume

__all__ = [
    "CloudInit",
    "ContainerDisk",
    "Cpu",
    "Devices",
    "Disk",
    "DiskTarget",
    "Domain",
    "Interface",
    "InterfaceStatus",
    "MachineCondition",
    "Memory",
    "MigrationPolicy",
    "Network",
    "PhaseTransitionTimestamp",
    "PodNetwork",
    "Resources",
    "StartFailure",
    "StateChangeRequest",
    "VirtualMachine",
    "VirtualMachineInstance",
    "VirtualMachineInstanceMigration",
    "VirtualMachineInstanceReplicaSet",
    "VirtualMachineInstanceSpec",
    "VirtualMachineInstanceStatus",
    "VirtualMachineInstanceTemplate",
    "VirtualMachineSpec",
    "VirtualMachineStatus",
    "Volume",
    "VolumeStatus",
]
