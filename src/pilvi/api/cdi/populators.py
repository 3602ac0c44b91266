"""What a claim's dataSourceRef may name: each says how that claim is filled. A DataVolume makes one for itself."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.cdi.datavolume import NO_FILES, NO_PODS, NO_STAGES, Checkpoint
from pilvi.api.cdi.sources import ImportSource
from pilvi.api.core import ATOMIC, Empty
from pilvi.api.field import Part, accepted, implemented, rejected
from pilvi.api.object import Definition, Object
from pilvi.api.resource import Resource

__all__ = ["CloneSourceRef", "VolumeCloneSource", "VolumeImportSource", "VolumeUploadSource"]


class VolumeImportSpec(Part):
    checkpoints: Annotated[list[Checkpoint], rejected("Stages of a warm import.", NO_STAGES, "one import of the whole image")] = []
    content_type: Annotated[
        str | None, rejected("kubevirt.", NO_FILES, "an image of a file system with these files", when="self == 'archive'")
    ] = None
    final_checkpoint: Annotated[bool | None, accepted("The last stage of a warm import.", "there are no stages")] = None
    preallocation: Annotated[bool | None, implemented("Take the disk's whole space at once.")] = None
    source: Annotated[ImportSource | None, implemented("Where the data comes from.")] = None
    target_claim: Annotated[str | None, accepted("Claim of a warm import.", "there are no stages")] = None


class VolumeImportSource(Object):
    """Says what is imported into the claims whose dataSourceRef names it."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "volumeimportsources", "VolumeImportSource")
    DEFINITION: ClassVar[Definition] = Definition(status=False)

    spec: VolumeImportSpec
    status: Empty | None = None


class CloneSourceRef(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    kind: Annotated[str, implemented("PersistentVolumeClaim or VolumeSnapshot.")]
    name: Annotated[str, implemented("Its name.")]
    api_group: Annotated[str | None, implemented("Its API group.")] = None


class VolumeCloneSpec(Part):
    source: Annotated[CloneSourceRef, implemented("The disk, in the same namespace.")]
    preallocation: Annotated[bool | None, implemented("Take the disk's whole space at once.")] = None
    priority_class_name: Annotated[str | None, accepted("Priority of the copying Pod.", NO_PODS)] = None


class VolumeCloneSource(Object):
    """Says which disk is copied into the claims whose dataSourceRef names it."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "volumeclonesources", "VolumeCloneSource")
    DEFINITION: ClassVar[Definition] = Definition(status=False)

    spec: VolumeCloneSpec


class VolumeUploadSpec(Part):
    content_type: Annotated[
        str | None, rejected("kubevirt.", NO_FILES, "an image of a file system with these files", when="self == 'archive'")
    ] = None
    preallocation: Annotated[bool | None, implemented("Take the disk's whole space at once.")] = None


class VolumeUploadSource(Object):
    """Says that the claims whose dataSourceRef names it are filled by a client."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "volumeuploadsources", "VolumeUploadSource")
    DEFINITION: ClassVar[Definition] = Definition(status=False)

    spec: VolumeUploadSpec
    status: Empty | None = None
