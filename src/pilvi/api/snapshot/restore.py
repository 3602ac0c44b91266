"""VirtualMachineRestore: makes a machine what it was in a VirtualMachineSnapshot."""

from typing import Annotated, ClassVar, Literal

from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource
from pilvi.api.snapshot.parts import ALSO_SERVED, GROUP, VERSION, OperationCondition, TypedReference, machine_rule, unchanged

__all__ = ["VirtualMachineRestore"]

RESTORE_POLICIES = ["RandomizeNames", "InPlace", "PrefixTargetName"]


class VolumeRestoreOverride(Part):
    annotations: Annotated[dict[str, str], implemented("Further annotations of the new claim.")] = {}
    labels: Annotated[dict[str, str], implemented("Further labels of the new claim.")] = {}
    restore_name: Annotated[str | None, implemented("Name of the new claim.")] = None
    volume_name: Annotated[str | None, implemented("Which volume of the machine is meant.")] = None


class VirtualMachineRestoreSpec(Part):
    target: Annotated[TypedReference, implemented("The machine that the snapshot is of, or the name of one that is made.")]
    virtual_machine_snapshot_name: Annotated[str, implemented("The VirtualMachineSnapshot.")]
    patches: Annotated[
        list[str],
        implemented(
            "Changes of a machine that is made: one operation of a JSON patch each, such as"
            ' {"op": "remove", "path": "/metadata/labels/app"}. A machine that is there is left as it was kept.',
            list_type="atomic",
        ),
    ] = []
    target_readiness_policy: Annotated[
        Literal["StopTarget", "WaitGracePeriod", "FailImmediate", "WaitEventually"],
        implemented("What is done with a machine that runs: it is stopped, awaited for five minutes or without end, or the restore fails."),
    ] = "WaitGracePeriod"
    volume_ownership_policy: Annotated[
        str | None, implemented("Vm: new claims go with the machine. None: they stay. Vm when left out.")
    ] = None
    volume_restore_overrides: Annotated[
        list[VolumeRestoreOverride], implemented("Names and labels of new claims.", list_type="atomic")
    ] = []
    volume_restore_policy: Annotated[
        str | None,
        implemented(
            "Names of new claims. RandomizeNames: restore-UID-VOLUME. PrefixTargetName: MACHINE-VOLUME. InPlace: that of the old claim,"
            " which is deleted first. RandomizeNames when left out."
        ),
    ] = None


class VolumeRestore(Part):
    persistent_volume_claim: Annotated[str, shape("The new claim.")]
    volume_name: Annotated[str, shape("The machine's volume.")]
    volume_snapshot_name: Annotated[str, shape("What it is made from.")]
    data_volume_name: Annotated[str | None, shape("The DataVolume that it belongs to.")] = None


class VirtualMachineRestoreStatus(Part):
    complete: Annotated[bool | None, shape("All is done.")] = None
    conditions: Annotated[list[OperationCondition], shape("Ready, Progressing, Failure.", list_type="atomic")] = []
    deleted_data_volumes: Annotated[list[str], shape("DataVolumes of the machine that are deleted at the end.", list_type="set")] = []
    restore_time: Annotated[DateTime | None, shape("When it was done.")] = None
    restores: Annotated[list[VolumeRestore], shape("The volumes and their new claims.", list_type="atomic")] = []


class VirtualMachineRestore(Object):
    """A VirtualMachine and its volumes made as they were in a VirtualMachineSnapshot."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "virtualmachinerestores", "VirtualMachineRestore")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmrestore", "vmrestores"),
        categories=("all",),
        also_served=ALSO_SERVED,
        columns=(
            Column("TargetKind", ".spec.target.kind"),
            Column("TargetName", ".spec.target.name"),
            Column("Complete", ".status.complete", "boolean"),
            Column("RestoreTime", ".status.restoreTime", "date"),
        ),
        variables={"overrides": "object.spec.?volumeRestoreOverrides.orValue([])"},
        rules=(
            machine_rule("spec.target"),
            Rule(
                f"object.spec.?volumeRestorePolicy.orValue('InPlace') in {RESTORE_POLICIES}",
                f"'spec.volumeRestorePolicy ' + object.spec.volumeRestorePolicy + ' is not one of {', '.join(RESTORE_POLICIES)}'",
            ),
            Rule(
                "object.spec.?volumeOwnershipPolicy.orValue('Vm') in ['Vm', 'None']",
                "'spec.volumeOwnershipPolicy ' + object.spec.volumeOwnershipPolicy + ' is not one of Vm, None'",
            ),
            Rule(
                "variables.overrides.all(entry, entry.?volumeName.orValue('') != '')",
                "'spec.volumeRestoreOverrides: each entry has to name a volume of the machine in volumeName'",
            ),
            unchanged("VirtualMachineRestore"),
        ),
    )

    spec: VirtualMachineRestoreSpec
    status: VirtualMachineRestoreStatus | None = None
