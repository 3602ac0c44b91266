"""DataVolume: a claim together with what shall be on it."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.cdi.rules import data_volume_rules, data_volume_variables
from pilvi.api.cdi.sources import CdiCondition, DataVolumeSource
from pilvi.api.core import ATOMIC, LabelSelector
from pilvi.api.field import Part, Quantity, accepted, implemented, rejected, shape
from pilvi.api.object import Column, Definition, Object
from pilvi.api.resource import Resource

__all__ = ["Checkpoint", "ClaimSpec", "DataVolume", "DataVolumeSpec", "DataVolumeStatus", "StorageSpec"]

NO_PODS = "the engine moves the data itself, without Pods"
NO_STAGES = "imports in stages are not implemented, and the disk would hold the last stage alone"
NO_FILES = "a volume holds one disk, and nothing here could read single files from it"


class TypedObjectReference(Part):
    kind: str
    name: str
    api_group: str | None = None
    namespace: str | None = None


class TypedLocalObjectReference(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    kind: str
    name: str
    api_group: str | None = None


class VolumeResources(Part):
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class StorageSpec(Part):
    access_modes: Annotated[list[str], implemented("Access modes; those of the class's StorageProfile when left out.")] = []
    data_source: Annotated[TypedLocalObjectReference | None, implemented("Passed to the claim.")] = None
    data_source_ref: Annotated[TypedObjectReference | None, implemented("Passed to the claim.")] = None
    resources: Annotated[VolumeResources | None, implemented("Size of the disk; a clone has its source's when left out.")] = None
    selector: Annotated[LabelSelector | None, implemented("Passed to the claim.")] = None
    storage_class_name: Annotated[str | None, implemented("Storage class; the default one when left out.")] = None
    volume_mode: Annotated[str | None, implemented("Block or Filesystem; that of the class's StorageProfile when left out.")] = None
    volume_name: Annotated[str | None, implemented("Passed to the claim.")] = None


class ClaimSpec(Part):
    access_modes: Annotated[list[str], implemented("Access modes.", list_type="atomic")] = []
    data_source: Annotated[TypedLocalObjectReference | None, implemented("Passed to the claim.")] = None
    data_source_ref: Annotated[TypedObjectReference | None, implemented("Passed to the claim.")] = None
    resources: Annotated[VolumeResources | None, implemented("Size of the claim.")] = None
    selector: Annotated[LabelSelector | None, implemented("Passed to the claim.")] = None
    storage_class_name: Annotated[str | None, implemented("Storage class; the default one when left out.")] = None
    volume_attributes_class_name: Annotated[str | None, implemented("Passed to the claim.")] = None
    volume_mode: Annotated[str | None, implemented("Block or Filesystem; Filesystem when left out.")] = None
    volume_name: Annotated[str | None, implemented("Passed to the claim.")] = None


class Checkpoint(Part):
    current: str
    previous: str


class SourceRef(Part):
    kind: Annotated[str, implemented("DataSource.")]
    name: Annotated[str, implemented("Its name.")]
    namespace: Annotated[str | None, implemented("Its namespace; the own one when left out.")] = None


class DataVolumeSpec(Part):
    checkpoints: Annotated[list[Checkpoint], rejected("Stages of a warm import.", NO_STAGES, "one import of the whole image")] = []
    content_type: Annotated[
        Literal["kubevirt", "archive"] | None,
        rejected("kubevirt: the image of a disk.", NO_FILES, "an image of a file system with these files", when="self == 'archive'"),
    ] = None
    final_checkpoint: Annotated[bool | None, accepted("The last stage of a warm import.", "there are no stages")] = None
    preallocation: Annotated[bool | None, implemented("Take the disk's whole space at once.")] = None
    priority_class_name: Annotated[str | None, accepted("Priority of the importing Pod.", NO_PODS)] = None
    pvc: Annotated[ClaimSpec | None, implemented("The claim, as written.")] = None
    service_account_name: Annotated[str | None, accepted("Account of the importing Pod.", NO_PODS)] = None
    source: Annotated[DataVolumeSource | None, implemented("Where the data comes from.")] = None
    source_ref: Annotated[SourceRef | None, implemented("A DataSource that says where the data comes from.")] = None
    storage: Annotated[StorageSpec | None, implemented("The claim; what is left out comes from the class's StorageProfile.")] = None


class DataVolumeStatus(Part):
    claim_name: Annotated[str | None, shape("Name of the claim.")] = None
    conditions: Annotated[list[CdiCondition], shape("Bound, Running and Ready.")] = []
    phase: Annotated[str | None, shape("How far it is.")] = None
    progress: Annotated[str | None, shape("Share of the data that is there, as 45.0%, or N/A.")] = None
    restart_count: Annotated[int | None, shape("How often the transfer was tried again.", format="int32")] = None


class DataVolume(Object):
    """A claim and what shall be on it: an image, a copy of another disk, or nothing."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "datavolumes", "DataVolume")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("dv", "dvs"),
        categories=("all",),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Progress", ".status.progress"),
            Column("Restarts", ".status.restartCount", "integer"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        variables=data_volume_variables("object.spec"),
        rules=data_volume_rules("spec"),
    )

    spec: DataVolumeSpec
    status: DataVolumeStatus | None = None
