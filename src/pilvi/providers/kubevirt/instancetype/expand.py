"""A machine's template with its instancetype and preference put in. Pure."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instancetype.preference import apply_attachments, apply_preference
from pilvi.providers.kubevirt.instancetype.requirements import find_shortfall
from pilvi.providers.kubevirt.instancetype.size import apply_instancetype, find_conflicts
from pilvi.providers.kubevirt.instancetype.topology import find_spread_fault
from pilvi.providers.kubevirt.virtualmachine.instance import with_devices

__all__ = ["Chosen", "expand"]


@dataclass(frozen=True)
class Chosen:
    """The specifications that hold for a machine, None where it names none.

    `annotations` say on the instance which they are. `replaces_memory`: the template's memory was only meant for a volume that names no
    instancetype.
    """

    instancetype: JsonObject | None = None
    preference: JsonObject | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    replaces_memory: bool = False


def expand(template: JsonObject, chosen: Chosen) -> JsonObject:
    """`template` of a VirtualMachine, complete but for defaults that depend on its name; `template` itself when nothing is chosen.

    Raises UserError when fields conflict with the instancetype, or when the machine is not what the preference requires.
    """
    if chosen.instancetype is None and chosen.preference is None:
        return template
    instancetype, preference = copy.deepcopy((chosen.instancetype, chosen.preference))
    metadata = dict(template.get("metadata") or {})
    annotations = metadata["annotations"] = {**(metadata.get("annotations") or {}), **dict(chosen.annotations)}
    spec = copy.deepcopy(template.get("spec") or {})
    spec["domain"] = spec.get("domain") or {}
    if preference is not None:
        apply_attachments(preference, spec)
    spec = with_devices(spec)
    if instancetype is not None:
        if chosen.replaces_memory:
            spec["domain"].pop("memory", None)
        _check(instancetype, preference, spec, annotations)
        apply_instancetype(instancetype, preference, spec, annotations)
    if preference is not None:
        apply_preference(preference, spec, annotations)
        if shortfall := find_shortfall(instancetype, preference, spec):
            raise UserError(
                f"failure checking preference requirements: {shortfall}", hint="take a larger instancetype, or another preference"
            )
    return {**template, "metadata": metadata, "spec": spec}


def _check(instancetype: JsonObject, preference: JsonObject | None, spec: JsonObject, annotations: JsonObject) -> None:
    if conflicts := find_conflicts(instancetype, spec, annotations):
        raise UserError(
            f"VM field(s) {', '.join(conflicts)} conflicts with selected instance type",
            hint="leave them out, as the instancetype gives them, or leave out spec.instancetype",
        )
    if fault := find_spread_fault(int(instancetype["cpu"]["guest"]), preference):
        raise UserError(fault)
