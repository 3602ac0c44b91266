"""A kind with one field of each sort, for the tests of the generators."""

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.field import DateTime, IntOrString, Part, Quantity, accepted, implemented, rejected, shape
from pilvi.api.object import Column, Definition, Object, Rule, Scale
from pilvi.api.resource import Resource


class Inner(Part):
    size: Annotated[int, accepted("Size.", when="self > 1")] = 1
    unknown: str | None = None
    used: Annotated[str | None, implemented("Used.")] = None


class Plain(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}

    key: str
    value: bool = False


class ToySpec(Part):
    must: Annotated[Literal["a", "b"], implemented("Must be.")]
    bad: Annotated[Plain | None, rejected("Bad.", "it is unsafe", "must: b")] = None
    idle: Annotated[Plain | None, accepted("Idle.", "no need", default={"key": "x"})] = None
    inner: Annotated[Inner | None, implemented("Inside.")] = None
    items: Annotated[list[Inner], implemented("List.", list_map=["size"])] = []
    number: Annotated[IntOrString | None, implemented("Number.")] = None
    quantities: Annotated[dict[str, Quantity], implemented("Amounts.")] = {}
    opaque: Annotated[dict[str, Any] | None, accepted("Opaque.")] = None
    version: Annotated[str | None, implemented("Version.")] = None


class ToyStatus(Part):
    ready: Annotated[bool, shape("Ready.", required=True)] = False
    since: DateTime | None = None


class Toy(Object):
    """A toy.

    More about it.
    """

    RESOURCE: ClassVar[Resource] = Resource("toys.example", "v2", "toys", "Toy")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("ty",),
        categories=("all",),
        also_served=("v1",),
        columns=(Column("Ready", ".status.ready", "boolean"), Column("More", ".spec.more", wide=True)),
        scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
        version_path="spec.version",
        variables={"here": "object.spec"},
        rules=(Rule("variables.here.must == 'a'", "'must be a'"),),
    )

    spec: ToySpec
    status: ToyStatus | None = None
