"""The kinds of snapshot.kubevirt.io: machines as they were at one moment, and the way back to them."""

from pilvi.api.snapshot.content import VirtualMachineSnapshotContent
from pilvi.api.snapshot.restore import VirtualMachineRestore
from pilvi.api.snapshot.snapshot import VirtualMachineSnapshot

__all__ = ["VirtualMachineRestore", "VirtualMachineSnapshot", "VirtualMachineSnapshotContent"]
