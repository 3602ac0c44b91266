"""Refusals of the DataVolumes that a VirtualMachine has made for itself.

The engine makes them, and it may do anything; so what their author may copy is asked when the VirtualMachine is written. Whoever leaves
them as they are is not asked again.
"""

from pilvi.api.cdi.rules import clone_right
from pilvi.api.object import Rule

__all__ = ["no_copies_across", "template_rules"]

_TEMPLATES = "object.spec.?dataVolumeTemplates.orValue([])"


def template_rules() -> tuple[Rule, ...]:
    """Rules of a VirtualMachine."""
    far, names = _far(_TEMPLATES), f"{_TEMPLATES}.map(dv, string(dv.?metadata.?name.orValue('')))"
    return (
        Rule(
            f"{names}.all(name, name != '' && {names}.filter(other, other == name).size() == 1)",
            "'spec.dataVolumeTemplates: each needs a metadata.name of its own'",
        ),
        Rule(
            f"{_TEMPLATES}.all(dv, dv.?metadata.?namespace.optMap(ns, ns == '' || ns == object.metadata.namespace).orValue(true))",
            "'spec.dataVolumeTemplates: their namespace is that of the machine; leave metadata.namespace out'",
        ),
        Rule(
            f"(oldObject != null && oldObject.?spec.?dataVolumeTemplates.orValue([]) == {_TEMPLATES})"
            f" || {far}.all(ns, {clone_right('ns')})",
            f"'spec.dataVolumeTemplates: a disk to copy is in another namespace, ' + {far}.join(', ')"
            " + ', in which you may not create datavolumes/source; a role there has to allow it'",
        ),
    )


def no_copies_across(spec: str, path: str) -> Rule:
    """For a kind that others make VirtualMachines from: nobody can be asked then what they may copy.

    `spec` is the CEL expression of the VirtualMachineSpec, `path` its field path.
    """
    far = _far(f"{spec}.?dataVolumeTemplates.orValue([])")
    return Rule(
        f"size({far}) == 0",
        f"'{path}.dataVolumeTemplates: a disk to copy is in another namespace, ' + {far}.join(', ')"
        " + '; copy it into this one with a DataVolume first, and name that'",
    )


def _far(templates: str) -> str:
    """CEL: the other namespaces that these templates copy from."""
    ways = ("source.?pvc", "source.?snapshot", "sourceRef")
    found = [f"{templates}.map(dv, string(dv.?spec.?{way}.?namespace.orValue('')))" for way in ways]
    return f"({' + '.join(found)}).filter(ns, ns != '' && ns != object.metadata.?namespace.orValue(''))"
