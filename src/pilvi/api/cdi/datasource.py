"""DataSource: a name for a disk that others are made from, so that it can be replaced."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar

from pilvi.api.cdi.rules import clone_right
from pilvi.api.cdi.sources import CdiCondition, NamedSource
from pilvi.api.field import Part, implemented, shape
from pilvi.api.object import Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["DataSource", "DataSourceSpec", "DataSourceStatus"]


class DataSourceSource(Part):
    data_source: Annotated[NamedSource | None, implemented("Another DataSource.")] = None
    pvc: Annotated[NamedSource | None, implemented("A claim.")] = None
    snapshot: Annotated[NamedSource | None, implemented("A VolumeSnapshot.")] = None


class DataSourceSpec(Part):
    source: Annotated[DataSourceSource, implemented("The disk.")]


class DataSourceStatus(Part):
    conditions: Annotated[list[CdiCondition], shape("Ready: the disk is there and whole.")] = []
    source: Annotated[DataSourceSource | None, shape("The disk, found through other DataSources.")] = None


class DataSource(Object):
    """Names a disk to make others from; DataVolumes refer to it by sourceRef."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "datasources", "DataSource")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("das",),
        categories=("all",),
        status=False,
        variables={
            "from": (
                "[object.?spec.?source.?pvc, object.?spec.?source.?snapshot, object.?spec.?source.?dataSource]"
                ".filter(source, source.hasValue()).map(source, source.value().namespace)"
            ),
        },
        rules=(
            Rule(
                "size(variables.from) <= 1",
                "'spec.source names more than one disk; name one of pvc, snapshot and dataSource'",
            ),
            # Who uses it needs a right in its own namespace only; so whoever points it elsewhere needs one there.
            Rule(
                f"variables.from.all(ns, {clone_right('ns')})",
                "'spec.source is in another namespace, ' + variables.from.join(', ')"
                " + ', in which you may not create datavolumes/source; a role there has to allow it'",
            ),
        ),
    )

    spec: DataSourceSpec
    status: DataSourceStatus | None = None
