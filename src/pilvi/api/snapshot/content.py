"""VirtualMachineSnapshotContent: what a VirtualMachineSnapshot holds. The engine makes it."""

from typing import Annotated, Any, ClassVar

from pilvi.api.cdi.datavolume import ClaimSpec
from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Column, Definition, Object
from pilvi.api.resource import Resource
from pilvi.api.snapshot.parts import ALSO_SERVED, GROUP, VERSION, OperationError, unchanged

__all__ = ["VirtualMachineSnapshotContent"]


class KeptMetadata(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}


class KeptSource(Part):
    # Not field by field: the machine that it was copied from has been checked, nobody writes it by hand, and a second copy of the whole
    # schema would cost the API server more than all other kinds of snapshots together.
    virtual_machine: Annotated[dict[str, Any] | None, implemented("The machine as it was: metadata and spec.")] = None


class KeptClaim(Part):
    metadata: Annotated[KeptMetadata | None, implemented("Name, labels, annotations and owners.")] = None
    spec: Annotated[ClaimSpec | None, implemented("Its specification.")] = None


class VolumeBackup(Part):
    persistent_volume_claim: Annotated[KeptClaim, implemented("The claim as it was.")]
    volume_name: Annotated[str, implemented("Name of the machine's volume.")]
    volume_snapshot_name: Annotated[str | None, implemented("The VolumeSnapshot that holds its data.")] = None


class VirtualMachineSnapshotContentSpec(Part):
    source: Annotated[KeptSource, implemented("What the snapshot is of.")]
    virtual_machine_snapshot_name: Annotated[str | None, implemented("The VirtualMachineSnapshot that it belongs to.")] = None
    volume_backups: Annotated[list[VolumeBackup], implemented("The machine's volumes.", list_type="atomic")] = []


class VolumeSnapshotState(Part):
    volume_snapshot_name: Annotated[str, shape("Its name.")]
    creation_time: Annotated[DateTime | None, shape("The moment that it shows.", nullable=True)] = None
    error: Annotated[OperationError | None, shape("Why it is not ready.")] = None
    ready_to_use: Annotated[bool | None, shape("A claim can be made from it.")] = None


class VirtualMachineSnapshotContentStatus(Part):
    creation_time: Annotated[DateTime | None, shape("When all volumes were copied.", nullable=True)] = None
    error: Annotated[OperationError | None, shape("Why it is not ready.")] = None
    ready_to_use: Annotated[bool | None, shape("It can be restored.")] = None
    volume_snapshot_status: Annotated[list[VolumeSnapshotState], shape("The VolumeSnapshots.", list_type="atomic")] = []


class VirtualMachineSnapshotContent(Object):
    """What a VirtualMachineSnapshot holds: the machine's specification, and a VolumeSnapshot for each of its volumes."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "virtualmachinesnapshotcontents", "VirtualMachineSnapshotContent")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmsnapshotcontent", "vmsnapshotcontents"),
        categories=("all",),
        also_served=ALSO_SERVED,
        columns=(
            Column("ReadyToUse", ".status.readyToUse", "boolean"),
            Column("CreationTime", ".status.creationTime", "date"),
            Column("Error", ".status.error.message"),
        ),
        rules=(unchanged("VirtualMachineSnapshot"),),
    )

    spec: VirtualMachineSnapshotContentSpec
    status: VirtualMachineSnapshotContentStatus | None = None
