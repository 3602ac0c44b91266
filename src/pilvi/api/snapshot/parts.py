"""What the kinds of snapshots, restores and clones have in common."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.core import ATOMIC
from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Rule

__all__ = [
    "ALSO_SERVED",
    "GROUP",
    "VERSION",
    "OperationCondition",
    "OperationError",
    "TypedReference",
    "duration_rule",
    "machine_rule",
    "named",
    "unchanged",
]

GROUP, VERSION, ALSO_SERVED = "snapshot.kubevirt.io", "v1beta1", ("v1alpha1",)


class TypedReference(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    kind: Annotated[str, implemented("Its kind.")]
    name: Annotated[str, implemented("Its name, in the same namespace.")]
    api_group: Annotated[str | None, implemented("Its API group.")] = None


class OperationCondition(Part):
    status: str
    type: str
    last_probe_time: Annotated[DateTime | None, shape(nullable=True)] = None
    last_transition_time: Annotated[DateTime | None, shape(nullable=True)] = None
    message: str | None = None
    reason: str | None = None


class OperationError(Part):
    message: Annotated[str | None, shape("What is wrong, and what to do.")] = None
    time: Annotated[DateTime | None, shape("Since when.")] = None


def named(reference: str) -> str:
    """CEL: the name at `reference` is one that a VirtualMachine can have."""
    return f"{reference}.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size({reference}.name) <= 63"


def machine_rule(path: str) -> Rule:
    """The reference at `path` names a VirtualMachine."""
    reference = f"object.{path}"
    return Rule(
        f"{reference}.kind == 'VirtualMachine' && {reference}.?apiGroup.orValue('kubevirt.io') == 'kubevirt.io' && {named(reference)}",
        f"'{path} has to name a VirtualMachine: write apiGroup: kubevirt.io, kind: VirtualMachine and its name, which has no dots'",
    )


def duration_rule(path: str, examples: str) -> Rule:
    """The text at `path`, if there is one, is a time as Go writes it: hours, minutes, seconds and thousandths, in this order."""
    parts = "".join(rf"([0-9]+(\\.[0-9]*)?{unit})?" for unit in ("h", "m", "s", "ms"))
    text = f"object.{path}"
    return Rule(f"!has({text}) || ({text} != '' && {text}.matches('^(0|{parts})$'))", f"'{path} has to be a time such as {examples}'")


def unchanged(what: str) -> Rule:
    """The specification is never changed: what it asked for is done, or being done."""
    return Rule("oldObject == null || object.spec == oldObject.spec", f"'spec cannot change: make a new {what}'")
