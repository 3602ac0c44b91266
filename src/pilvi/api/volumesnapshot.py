"""The kinds of snapshot.storage.k8s.io: copies of volumes as they were at one moment."""

from typing import Annotated, ClassVar, Literal

from pilvi.api.core import ObjectReference
from pilvi.api.field import DateTime, Part, Quantity, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["VolumeSnapshot", "VolumeSnapshotClass", "VolumeSnapshotContent"]

GROUP, VERSION = "snapshot.storage.k8s.io", "v1"
APPROVED = "https://github.com/kubernetes-csi/external-snapshotter/pull/814"

DeletionPolicy = Annotated[
    Literal["Delete", "Retain"], implemented("Whether the copy goes with its VolumeSnapshot, or stays until its folder is removed by hand.")
]
AGE = Column("Age", ".metadata.creationTimestamp", "date")


class SnapshotError(Part):
    message: Annotated[str | None, shape("What is wrong, and what to do.")] = None
    time: Annotated[DateTime | None, shape("Since when.")] = None


class SnapshotSource(Part):
    persistent_volume_claim_name: Annotated[str | None, implemented("Claim, in the same namespace, whose volume is copied.")] = None
    volume_snapshot_content_name: Annotated[str | None, implemented("A VolumeSnapshotContent that is there already.")] = None


class VolumeSnapshotSpec(Part):
    source: Annotated[SnapshotSource, implemented("What is copied: exactly one of the two.")]
    volume_snapshot_class_name: Annotated[
        str | None, implemented("Its VolumeSnapshotClass; the default one of the claim's provisioner when there is none.")
    ] = None


class VolumeSnapshotStatus(Part):
    bound_volume_snapshot_content_name: Annotated[str | None, shape("The VolumeSnapshotContent that holds the copy.")] = None
    creation_time: Annotated[DateTime | None, shape("The moment that the copy shows.")] = None
    error: Annotated[SnapshotError | None, shape("Why there is no copy yet.")] = None
    ready_to_use: Annotated[bool | None, shape("A claim can be made from it.")] = None
    restore_size: Annotated[Quantity | None, shape("The least size of a claim that is made from it.")] = None
    volume_group_snapshot_name: Annotated[str | None, shape("Never set: there are no snapshots of groups.")] = None


class VolumeSnapshot(Object):
    """A copy of a claim's volume as it was at one moment."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "volumesnapshots", "VolumeSnapshot")
    DEFINITION: ClassVar[Definition] = Definition(
        approved=APPROVED,
        short_names=("vs",),
        columns=(
            Column("ReadyToUse", ".status.readyToUse", "boolean"),
            Column("SourcePVC", ".spec.source.persistentVolumeClaimName"),
            Column("SourceSnapshotContent", ".spec.source.volumeSnapshotContentName"),
            Column("RestoreSize", ".status.restoreSize"),
            Column("SnapshotClass", ".spec.volumeSnapshotClassName"),
            Column("SnapshotContent", ".status.boundVolumeSnapshotContentName"),
            Column("CreationTime", ".status.creationTime", "date"),
            AGE,
        ),
        rules=(
            Rule(
                "has(object.spec.source.persistentVolumeClaimName) != has(object.spec.source.volumeSnapshotContentName)",
                "'set exactly one of spec.source.persistentVolumeClaimName and spec.source.volumeSnapshotContentName'",
            ),
            Rule(
                "object.spec.?volumeSnapshotClassName.orValue('-') != ''",
                "'spec.volumeSnapshotClassName is empty; leave it out for the default class'",
            ),
            Rule(
                "oldObject == null || object.spec.source == oldObject.?spec.?source.orValue(object.spec.source)",
                "'spec.source cannot change: the copy is made once; make a new VolumeSnapshot'",
            ),
        ),
    )

    spec: VolumeSnapshotSpec
    status: VolumeSnapshotStatus | None = None


class ContentSource(Part):
    snapshot_handle: Annotated[str | None, implemented("A copy that is there already: its folder below HOME/volumes.")] = None
    volume_handle: Annotated[str | None, implemented("The volume that is copied: its folder below HOME/volumes.")] = None


class VolumeSnapshotContentSpec(Part):
    deletion_policy: DeletionPolicy
    driver: Annotated[str, implemented("Who holds the copy: local.pilvi.dev.")]
    source: Annotated[ContentSource, implemented("What is copied, or the copy: exactly one of the two.")]
    volume_snapshot_ref: Annotated[ObjectReference, implemented("The VolumeSnapshot that it belongs to.")]
    source_volume_mode: Annotated[
        str | None, implemented("Volume mode of the volume that is copied; a claim made from it has the same.")
    ] = None
    volume_snapshot_class_name: Annotated[str | None, implemented("The VolumeSnapshotClass that it was made by.")] = None


class VolumeSnapshotContentStatus(Part):
    creation_time: Annotated[int | None, shape("The moment that the copy shows, in nanoseconds since 1970.", format="int64")] = None
    error: Annotated[SnapshotError | None, shape("Why there is no copy yet.")] = None
    ready_to_use: Annotated[bool | None, shape("A claim can be made from it.")] = None
    restore_size: Annotated[int | None, shape("Size in bytes.", format="int64", minimum=0)] = None
    snapshot_handle: Annotated[str | None, shape("Folder of the copy below HOME/volumes.")] = None
    volume_group_snapshot_handle: Annotated[str | None, shape("Never set: there are no snapshots of groups.")] = None


class VolumeSnapshotContent(Object):
    """Where the copy of a VolumeSnapshot is."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        approved=APPROVED,
        short_names=("vsc", "vscs"),
        columns=(
            Column("ReadyToUse", ".status.readyToUse", "boolean"),
            Column("RestoreSize", ".status.restoreSize", "integer"),
            Column("DeletionPolicy", ".spec.deletionPolicy"),
            Column("Driver", ".spec.driver"),
            Column("VolumeSnapshotClass", ".spec.volumeSnapshotClassName"),
            Column("VolumeSnapshot", ".spec.volumeSnapshotRef.name"),
            Column("VolumeSnapshotNamespace", ".spec.volumeSnapshotRef.namespace"),
            AGE,
        ),
        rules=(
            Rule(
                "has(object.spec.source.volumeHandle) != has(object.spec.source.snapshotHandle)",
                "'set exactly one of spec.source.volumeHandle and spec.source.snapshotHandle'",
            ),
            Rule(
                "object.spec.volumeSnapshotRef.?name.hasValue() && object.spec.volumeSnapshotRef.?namespace.hasValue()",
                "'spec.volumeSnapshotRef needs the name and the namespace of a VolumeSnapshot'",
            ),
            Rule(
                "oldObject == null || object.spec.source == oldObject.?spec.?source.orValue(object.spec.source)",
                "'spec.source cannot change; make a new VolumeSnapshotContent'",
            ),
            Rule(
                "oldObject == null || !has(oldObject.spec.sourceVolumeMode)"
                " || object.spec.?sourceVolumeMode.orValue('') == oldObject.spec.sourceVolumeMode",
                "'spec.sourceVolumeMode cannot change'",
            ),
        ),
    )

    spec: VolumeSnapshotContentSpec
    status: VolumeSnapshotContentStatus | None = None


class VolumeSnapshotClass(Object):
    """Says who makes copies of volumes, and whether they go with their VolumeSnapshots."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        approved=APPROVED,
        short_names=("vsclass", "vsclasses"),
        status=False,
        columns=(Column("Driver", ".driver"), Column("DeletionPolicy", ".deletionPolicy"), AGE),
    )

    deletion_policy: DeletionPolicy
    driver: Annotated[str, implemented("Who makes the copies: local.pilvi.dev.")]
    parameters: Annotated[
        dict[str, str], implemented("None are known: a VolumeSnapshot of a class that has some says so in its status.")
    ] = {}
