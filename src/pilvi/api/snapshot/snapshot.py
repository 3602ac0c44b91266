"""VirtualMachineSnapshot: asks for a machine to be kept as it is now."""

from typing import Annotated, ClassVar

from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource
from pilvi.api.snapshot.parts import (
    ALSO_SERVED,
    GROUP,
    VERSION,
    OperationCondition,
    OperationError,
    TypedReference,
    duration_rule,
    machine_rule,
    unchanged,
)

__all__ = ["VirtualMachineSnapshot"]


class VirtualMachineSnapshotSpec(Part):
    source: Annotated[TypedReference, implemented("The VirtualMachine.")]
    deletion_policy: Annotated[
        str | None, implemented("Delete: the content goes with the snapshot. Retain: it stays. Delete when left out.")
    ] = None
    failure_deadline: Annotated[
        str | None, implemented("After this time, such as 10m, a snapshot that is not made has failed; 5m when left out, 0s for never.")
    ] = None


class SourceIndication(Part):
    indication: Annotated[str, shape("Online, GuestAgent, NoGuestAgent, Paused or PartialSnapshot.")]
    message: Annotated[str, shape("What that means for the data.")]


class SnapshotVolumes(Part):
    excluded_volumes: Annotated[list[str], shape("Volumes that are not in it.", list_type="set")] = []
    included_volumes: Annotated[list[str], shape("Volumes that are in it.", list_type="set")] = []


class VirtualMachineSnapshotStatus(Part):
    conditions: Annotated[list[OperationCondition], shape("Ready, Progressing, Failure.", list_type="atomic")] = []
    creation_time: Annotated[DateTime | None, shape("When all volumes were copied.", nullable=True)] = None
    error: Annotated[OperationError | None, shape("Why it is not ready.")] = None
    indications: Annotated[list[str], shape("How the machine was when it was copied; none for one that did not run.", list_type="set")] = []
    phase: Annotated[str | None, shape("InProgress, Succeeded, Failed or Deleting.")] = None
    ready_to_use: Annotated[bool | None, shape("It can be restored.")] = None
    snapshot_volumes: Annotated[SnapshotVolumes | None, shape("Which volumes are in it.")] = None
    source_indications: Annotated[list[SourceIndication], shape("The same with what it means.", list_type="atomic")] = []
    source_uid: Annotated[str | None, shape("UID of the machine.")] = None
    virtual_machine_snapshot_content_name: Annotated[str | None, shape("The VirtualMachineSnapshotContent that holds it.")] = None


class VirtualMachineSnapshot(Object):
    """A VirtualMachine and its volumes as they were at one moment."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "virtualmachinesnapshots", "VirtualMachineSnapshot")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmsnapshot", "vmsnapshots"),
        categories=("all",),
        also_served=ALSO_SERVED,
        columns=(
            Column("SourceKind", ".spec.source.kind"),
            Column("SourceName", ".spec.source.name"),
            Column("Phase", ".status.phase"),
            Column("ReadyToUse", ".status.readyToUse", "boolean"),
            Column("CreationTime", ".status.creationTime", "date"),
            Column("Error", ".status.error.message"),
        ),
        rules=(
            machine_rule("spec.source"),
            Rule(
                "object.spec.?deletionPolicy.orValue('Delete') in ['Delete', 'Retain']",
                "'spec.deletionPolicy ' + object.spec.deletionPolicy + ' is not one of Delete, Retain'",
            ),
            duration_rule("spec.failureDeadline", "30s, 10m or 1h30m"),
            unchanged("VirtualMachineSnapshot"),
        ),
    )

    spec: VirtualMachineSnapshotSpec
    status: VirtualMachineSnapshotStatus | None = None
