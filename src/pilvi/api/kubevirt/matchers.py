"""How a VirtualMachine names its instancetype and its preference, and what of it became of that."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated

from pilvi.api.field import Part, implemented
from pilvi.api.object import Rule

__all__ = ["ControllerRevisionRef", "InstancetypeMatcher", "PreferenceMatcher", "StatusInstancetype", "matcher_rules"]


class InstancetypeMatcher(Part):
    infer_from_volume: Annotated[
        str | None, implemented("Volume of the template whose claim, DataVolume or DataSource has the name in a label.")
    ] = None
    infer_from_volume_failure_policy: Annotated[
        str | None, implemented("Reject (default) does not start a machine whose volume says nothing, Ignore starts it without.")
    ] = None
    kind: Annotated[str | None, implemented("VirtualMachineClusterInstancetype (default) or VirtualMachineInstancetype.")] = None
    name: Annotated[str | None, implemented("Name of the instancetype.")] = None
    revision_name: Annotated[str | None, implemented("ControllerRevision that holds the instancetype; default one of its own.")] = None


class PreferenceMatcher(Part):
    infer_from_volume: Annotated[
        str | None, implemented("Volume of the template whose claim, DataVolume or DataSource has the name in a label.")
    ] = None
    infer_from_volume_failure_policy: Annotated[
        str | None, implemented("Reject (default) does not start a machine whose volume says nothing, Ignore starts it without.")
    ] = None
    kind: Annotated[str | None, implemented("VirtualMachineClusterPreference (default) or VirtualMachinePreference.")] = None
    name: Annotated[str | None, implemented("Name of the preference.")] = None
    revision_name: Annotated[str | None, implemented("ControllerRevision that holds the preference; default one of its own.")] = None


class ControllerRevisionRef(Part):
    name: str | None = None


class StatusInstancetype(Part):
    controller_revision_ref: ControllerRevisionRef | None = None
    infer_from_volume: str | None = None
    infer_from_volume_failure_policy: str | None = None
    kind: str | None = None
    name: str | None = None


def matcher_rules() -> tuple[Rule, ...]:
    """What a VirtualMachine's matchers must say, in the meaning of KubeVirt's webhook."""
    return (*_rules("instancetype", "Instancetype"), *_rules("preference", "Preference"))


def _rules(field: str, noun: str) -> tuple[Rule, ...]:
    matcher, path = f"object.spec.{field}", f"spec.{field}"
    kinds = [f"VirtualMachineCluster{noun}", f"VirtualMachine{noun}"]
    # In any case, and as plurals, as KubeVirt takes them.
    known = ["", *(word for kind in kinds for word in (kind.lower(), f"{kind.lower()}s"))]
    return (
        Rule(
            f"!has({matcher}) || {matcher}.?name.orValue('') != '' || {matcher}.?inferFromVolume.orValue('') != ''",
            f"'{path}: either name or inferFromVolume should be provided'",
        ),
        Rule(
            f"!has({matcher}) || {matcher}.?inferFromVolume.orValue('') == ''"
            f" || ({matcher}.?name.orValue('') == '' && {matcher}.?kind.orValue('') == '')",
            f"'{path}: name and kind should be cleared where inferFromVolume is set, which finds them'",
        ),
        Rule(
            f"!has({matcher}) || {matcher}.?kind.orValue('').lowerAscii() in {known}",
            f"'{path}.kind ' + {matcher}.kind + ' is not one of {', '.join(kinds)}'",
        ),
        Rule(
            f"!has({matcher}) || {matcher}.?inferFromVolumeFailurePolicy.orValue('Reject') in ['Reject', 'Ignore']",
            f"'{path}.inferFromVolumeFailurePolicy ' + {matcher}.inferFromVolumeFailurePolicy + ' is not Reject or Ignore'",
        ),
        Rule(
            f"!has({matcher}) || {matcher}.?inferFromVolume.orValue('') in [''] + variables.volumes",
            f"'{path}.inferFromVolume: no volume is called ' + {matcher}.inferFromVolume + '; name one of spec.template.spec.volumes'",
        ),
        Rule(
            f"oldObject == null || !has({matcher}) || !has(oldObject.spec.{field})"
            f" || {matcher}.?revisionName.orValue('') == '' || {matcher}.?name == oldObject.spec.{field}.?name"
            f" || {matcher}.?revisionName != oldObject.spec.{field}.?revisionName",
            f"'{path}: the name has changed and revisionName has not; leave revisionName out, or write that of the new one'",
        ),
    )
