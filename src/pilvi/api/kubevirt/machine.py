"""VirtualMachine: a machine that is started, stopped and started again."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.cdi import DataVolumeSpec
from pilvi.api.field import DateTime, Part, accepted, implemented, rejected, shape
from pilvi.api.kubevirt.datavolumes import template_rules
from pilvi.api.kubevirt.devices import Disk
from pilvi.api.kubevirt.instance import VirtualMachineInstanceTemplate
from pilvi.api.kubevirt.instance_status import ChangedBlockTracking, MachineCondition, MigratedVolume
from pilvi.api.kubevirt.matchers import InstancetypeMatcher, PreferenceMatcher, StatusInstancetype, matcher_rules
from pilvi.api.kubevirt.rules import MACHINE_COLUMNS, RUN_STRATEGIES, machine_rules, machine_variables, memory_rule, name_rule
from pilvi.api.kubevirt.volumes import ClaimVolume, DataVolumeSource
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["VirtualMachine", "VirtualMachineSpec", "VirtualMachineStatus"]


class DataVolumeTemplate(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"nullable": True}

    spec: Annotated[DataVolumeSpec, implemented("The DataVolume.")]
    api_version: Annotated[str | None, implemented("May be left out; it is that of a DataVolume.")] = None
    kind: Annotated[str | None, implemented("May be left out; it is DataVolume.")] = None
    metadata: Annotated[dict[str, Any] | None, implemented("Name, labels and annotations of the DataVolume.", nullable=True)] = None
    status: Annotated[dict[str, Any] | None, accepted("How a DataVolume is.", "a template has none", nullable=True)] = None


class VirtualMachineSpec(Part):
    template: Annotated[VirtualMachineInstanceTemplate, implemented("What each run of the machine is made from.")]
    data_volume_templates: Annotated[
        list[DataVolumeTemplate],
        implemented(
            "DataVolumes that are made for the machine before it starts, and go with it; by their name a dataVolume refers to them."
        ),
    ] = []
    instancetype: Annotated[InstancetypeMatcher | None, implemented("Size by name, instead of the template's cpu and memory.")] = None
    preference: Annotated[PreferenceMatcher | None, implemented("What the guest likes, by name; fills what the template leaves open.")] = (
        None
    )
    run_strategy: Annotated[str | None, implemented("Always, RerunOnFailure, Once, Manual or Halted.")] = None
    running: Annotated[bool | None, implemented("Old form of runStrategy: true is Always, false Halted.")] = None
    update_volumes_strategy: Annotated[
        str | None,
        rejected(
            "What becomes of the data when a volume names another claim: Replacement leaves them.",
            "data do not move between claims, and the machine would start from the new one as it is",
            "Replacement; copy the disk with a DataVolume before",
            when="self == 'Migration'",
        ),
    ] = None


class MemoryDumpRequest(Part):
    claim_name: str
    phase: str
    end_timestamp: DateTime | None = None
    file_name: str | None = None
    message: str | None = None
    remove: bool | None = None
    start_timestamp: DateTime | None = None


class StartFailure(Part):
    consecutive_fail_count: int | None = None
    last_failed_vmi_uid: str | None = None
    retry_after_timestamp: DateTime | None = None


class StateChangeRequest(Part):
    action: str
    data: dict[str, str] = {}
    uid: str | None = None


class HotplugSource(Part):
    data_volume: DataVolumeSource | None = None
    persistent_volume_claim: ClaimVolume | None = None


class AddVolumeOptions(Part):
    disk: Disk
    name: str
    volume_source: HotplugSource
    dry_run: list[str] = []


class RemoveVolumeOptions(Part):
    name: str
    dry_run: list[str] = []


class VolumeRequest(Part):
    add_volume_options: AddVolumeOptions | None = None
    remove_volume_options: RemoveVolumeOptions | None = None


class VolumeSnapshotStatus(Part):
    enabled: bool
    name: str
    reason: str | None = None


class VolumeMigrationState(Part):
    migrated_volumes: list[MigratedVolume] = []


class VolumeUpdateState(Part):
    volume_migration_state: VolumeMigrationState | None = None


class VirtualMachineStatus(Part):
    changed_block_tracking: Annotated[ChangedBlockTracking | None, shape(nullable=True)] = None
    conditions: Annotated[list[MachineCondition], shape("Ready, Failure, Paused, RestartRequired.")] = []
    created: Annotated[bool | None, shape("An instance exists.")] = None
    desired_generation: int | None = None
    instancetype_ref: Annotated[StatusInstancetype | None, shape(nullable=True)] = None
    memory_dump_request: Annotated[MemoryDumpRequest | None, shape(nullable=True)] = None
    observed_generation: int | None = None
    preference_ref: Annotated[StatusInstancetype | None, shape(nullable=True)] = None
    printable_status: Annotated[str, shape("One word for people.")] = "Stopped"
    ready: Annotated[bool | None, shape("The instance is running and ready.")] = None
    restore_in_progress: str | None = None
    run_strategy: Annotated[str | None, shape("The strategy in force.")] = None
    snapshot_in_progress: str | None = None
    start_failure: Annotated[StartFailure | None, shape("Failed starts in a row and when the next is tried.", nullable=True)] = None
    state_change_requests: list[StateChangeRequest] = []
    volume_requests: list[VolumeRequest] = []
    volume_snapshot_statuses: list[VolumeSnapshotStatus] = []
    volume_update_state: VolumeUpdateState | None = None


class VirtualMachine(Object):
    """A machine that is started, stopped and started again."""

    RESOURCE: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vm", "vms"),
        categories=("all",),
        also_served=("v1alpha3",),
        columns=(Column("Age", ".metadata.creationTimestamp", "date"), Column("Status", ".status.printableStatus"), *MACHINE_COLUMNS),
        variables=machine_variables("object.spec.template.?spec.orValue({})"),
        rules=(
            name_rule("VirtualMachine", "a host name"),
            Rule(
                "has(object.spec.running) != has(object.spec.runStrategy)",
                "'set exactly one of spec.runStrategy and spec.running (the old form); write runStrategy: Always for a machine that runs'",
            ),
            Rule(
                f"object.spec.?runStrategy.orValue('Always') in {RUN_STRATEGIES}",
                f"'spec.runStrategy ' + object.spec.runStrategy + ' is not one of {', '.join(RUN_STRATEGIES)}'",
            ),
            *matcher_rules(),
            memory_rule("spec.template.spec", unless="has(object.spec.instancetype)"),
            *machine_rules("spec.template.spec"),
            *template_rules(),
        ),
    )

    spec: VirtualMachineSpec
    status: VirtualMachineStatus | None = None
