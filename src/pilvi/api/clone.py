"""VirtualMachineClone, the kind of clone.kubevirt.io: a second machine like another one."""

from typing import Annotated, ClassVar, Literal

from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource
from pilvi.api.snapshot.parts import OperationCondition, TypedReference, named, unchanged

__all__ = ["VirtualMachineClone"]

FILTERS = "Which {} the clone has: regular expressions, with a ! in front for those it has not; all when left out."


class TemplateFilters(Part):
    annotation_filters: Annotated[list[str], implemented(FILTERS.format("annotations of the template"), list_type="atomic")] = []
    label_filters: Annotated[list[str], implemented(FILTERS.format("labels of the template"), list_type="atomic")] = []


class VirtualMachineCloneSpec(Part):
    source: Annotated[TypedReference, implemented("A VirtualMachine, or a VirtualMachineSnapshot.")]
    annotation_filters: Annotated[list[str], implemented(FILTERS.format("annotations"), list_type="atomic")] = []
    label_filters: Annotated[list[str], implemented(FILTERS.format("labels"), list_type="atomic")] = []
    new_mac_addresses: Annotated[
        dict[str, str], implemented("MAC addresses by the name of the interface; others are given by the Subnet.")
    ] = {}
    new_smbios_serial: Annotated[str | None, implemented("Serial number of the clone; none when left out.")] = None
    patches: Annotated[list[str], implemented("Further changes: one operation of a JSON patch each.", list_type="atomic")] = []
    target: Annotated[TypedReference | None, implemented("Name of the clone; clone-SOURCE-xxxxx when left out.")] = None
    template: Annotated[TemplateFilters | None, implemented("Filters of the template's labels and annotations.")] = None
    volume_name_policy: Annotated[
        Literal["RandomizeNames", "PrefixTargetName"] | None,
        implemented("Names of the clone's claims: restore-UID-VOLUME, or MACHINE-VOLUME. The first when left out."),
    ] = None


class VirtualMachineCloneStatus(Part):
    conditions: Annotated[list[OperationCondition], shape("Ready, Progressing.", list_type="atomic")] = []
    creation_time: Annotated[DateTime | None, shape("When the clone was made.", nullable=True)] = None
    phase: Annotated[str | None, shape("SnapshotInProgress, RestoreInProgress, CreatingTargetVM, Succeeded or Failed.")] = None
    restore_name: Annotated[str | None, shape("The VirtualMachineRestore that makes it, while there is one.", nullable=True)] = None
    snapshot_name: Annotated[str | None, shape("The VirtualMachineSnapshot that it is made from, while there is one.", nullable=True)] = (
        None
    )
    target_name: Annotated[str | None, shape("Name of the clone.", nullable=True)] = None


class VirtualMachineClone(Object):
    """A second VirtualMachine like another one, with copies of its volumes, and an identity of its own."""

    RESOURCE: ClassVar[Resource] = Resource("clone.kubevirt.io", "v1beta1", "virtualmachineclones", "VirtualMachineClone")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmclone", "vmclones"),
        categories=("all",),
        also_served=("v1alpha1",),
        columns=(
            Column("Phase", ".status.phase"),
            Column("SourceVirtualMachine", ".spec.source.name"),
            Column("TargetVirtualMachine", ".spec.target.name"),
        ),
        variables={
            "group": "object.spec.source.?apiGroup.orValue('')",
            "filters": (
                "object.spec.?labelFilters.orValue([]) + object.spec.?annotationFilters.orValue([])"
                " + object.spec.?template.?labelFilters.orValue([]) + object.spec.?template.?annotationFilters.orValue([])"
            ),
        },
        rules=(
            Rule(
                "(object.spec.source.kind == 'VirtualMachine' && variables.group in ['', 'kubevirt.io'])"
                " || (object.spec.source.kind == 'VirtualMachineSnapshot' && variables.group in ['', 'snapshot.kubevirt.io'])",
                "'spec.source has to name a VirtualMachine (apiGroup: kubevirt.io)"
                " or a VirtualMachineSnapshot (apiGroup: snapshot.kubevirt.io)'",
            ),
            Rule(
                "!has(object.spec.target) || (object.spec.target.kind == 'VirtualMachine'"
                f" && object.spec.target.?apiGroup.orValue('kubevirt.io') == 'kubevirt.io' && {named('object.spec.target')})",
                "'spec.target has to be a VirtualMachine: write apiGroup: kubevirt.io, kind: VirtualMachine and a name without dots'",
            ),
            Rule(
                "object.spec.source.kind != 'VirtualMachine' || object.spec.?target.?name.orValue('') != object.spec.source.name",
                "'spec.target.name is the source itself; write another name'",
            ),
            Rule(
                "variables.filters.all(filter, filter.indexOf('!') <= 0 && filter != '')",
                "'a filter is a regular expression, with ! only at its beginning; not '"
                " + variables.filters.filter(filter, filter.indexOf('!') > 0 || filter == '').join(', ')",
            ),
            unchanged("VirtualMachineClone"),
        ),
    )

    spec: VirtualMachineCloneSpec
    status: VirtualMachineCloneStatus | None = None
