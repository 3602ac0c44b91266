"""Admission policies from the structs of the kinds. Pure.

A kind has two ValidatingAdmissionPolicies, evaluated by the API server alone: `pilvi-refused-<plural>` (binding: Deny) holds the kind's
rules and its rejected fields, `pilvi-accepted-<plural>` (binding: Warn) the fields that have no effect. Exempt are status and
metadata writes, objects that are being deleted (a finalizer must always come off), Cluster API's topology dry runs, and for warnings
pilvi's own controllers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pilvi.api.crd import defaulted, members, part_of
from pilvi.api.field import NOT_YET, Field, Level, Part
from pilvi.api.object import Object, Rule
from pilvi.api.resource import JsonObject, Resource

__all__ = [
    "NOT_DELETED",
    "NOT_OURSELVES",
    "NO_TOPOLOGY_DRY_RUN",
    "OWN_USERS",
    "Leaf",
    "leaves",
    "policies_of",
    "refusals_of",
    "version_rules",
    "version_variables",
]

OWN_USERS = "system:pilvi:"
"""Prefix of the user names of pilvi's own controllers."""

SPEC_CHANGES = {
    "name": "spec-changes",
    "expression": "oldObject == null || object.?spec.orValue({}) != oldObject.?spec.orValue({})",
}
NOT_DELETED = {"name": "not-deleted", "expression": "!has(object.metadata.deletionTimestamp)"}
NO_TOPOLOGY_DRY_RUN = {
    "name": "no-topology-dry-run",
    "expression": "!(has(request.dryRun) && request.dryRun)"
    " || !('topology.cluster.x-k8s.io/dry-run' in object.metadata.?annotations.orValue({}))",
}
NOT_OURSELVES = {"name": "not-pilvi-itself", "expression": f"!request.userInfo.username.startsWith('{OWN_USERS}')"}


class Leaf(msgspec.Struct, frozen=True):
    """A field that is not simply implemented: its path (`spec.volumes[].secret`), its note, and the CEL condition that it is not used."""

    path: str
    note: Field
    unused: str


def policies_of(kind: type[Object], kubernetes_versions: Sequence[str]) -> list[JsonObject]:
    """The policies of a kind and their bindings; `kubernetes_versions` are those that clusters may have."""
    found = list(leaves(kind))
    rules = [*_spec_rules(kind), *kind.DEFINITION.rules, *version_rules(kind.DEFINITION.version_path, kubernetes_versions)]
    # The API server reports the first that fails, and a field that cannot be used may be the cause of what the rules miss.
    refused = [
        {"expression": leaf.unused, "message": f"{leaf.path}: {leaf.note.reason}. Instead: {leaf.note.instead}"}
        for leaf in found
        if leaf.note.level is Level.REJECTED
    ]
    refused += [{"expression": rule.holds, "messageExpression": rule.message} for rule in rules]
    accepted = [
        {"expression": leaf.unused, "message": f"{leaf.path} has no effect: {leaf.note.reason}"}
        for leaf in found
        if leaf.note.level is Level.ACCEPTED
    ]
    out: list[JsonObject] = []
    if refused:
        variables = {**kind.DEFINITION.variables, **version_variables(kind.DEFINITION.version_path)}
        out += _policy(kind.RESOURCE, "refused", "Deny", refused, [SPEC_CHANGES, NOT_DELETED, NO_TOPOLOGY_DRY_RUN], variables)
    if accepted:
        conditions = [NOT_OURSELVES, SPEC_CHANGES, NOT_DELETED, NO_TOPOLOGY_DRY_RUN]
        out += _policy(kind.RESOURCE, "accepted", "Warn", accepted, conditions, {})
    return out


def refusals_of(resource: Resource, rules: Sequence[Rule], variables: Mapping[str, str]) -> list[JsonObject]:
    """The refusing policy, and its binding, of a kind that is not ours."""
    validations = [{"expression": rule.holds, "messageExpression": rule.message} for rule in rules]
    return _policy(resource, "refused", "Deny", validations, [SPEC_CHANGES, NOT_DELETED, NO_TOPOLOGY_DRY_RUN], variables)


def leaves(kind: type[Object]) -> Iterator[Leaf]:
    """The outermost fields of a kind's spec that are accepted or rejected."""
    for member in members(kind, NOT_YET):
        if member.name == "spec" and (spec := part_of(member.type)[0]):
            yield from _leaves(spec, "spec", "object.?spec", 0)


def _leaves(part: type[Part], path: str, subject: str, depth: int) -> Iterator[Leaf]:
    for member in members(part, NOT_YET):
        note, field_path, field = member.note, f"{path}.{member.name}", f"{subject}.?{member.name}"
        if note.level in (Level.ACCEPTED, Level.REJECTED):
            yield Leaf(field_path, note, _unused(note, field, defaulted(member)))
            if not note.when:
                continue
        inner, way = part_of(member.type)
        if inner is None or not any(below.note.level for below in members(inner, Field())):
            continue
        if way == "[]":
            item = f"item{depth}" if depth else "item"
            for leaf in _leaves(inner, f"{field_path}[]", item, depth + 1):
                yield Leaf(leaf.path, leaf.note, f"{field}.orValue([]).all({item}, {leaf.unused})")
        else:
            yield from _leaves(inner, field_path, field, depth)


def _spec_rules(kind: type[Object]) -> list[Rule]:
    """Upstream's schemas leave the spec itself optional, also where it has required fields. A policy asks for it and not the schema,
    which would keep a finalizer from coming off an object that was stored without one.
    """
    spec = next((part_of(member.type)[0] for member in members(kind, NOT_YET) if member.name == "spec" and not member.required), None)
    required = [member.name for member in members(spec, NOT_YET) if member.required] if spec is not None else []
    return [Rule("has(object.spec)", f"'spec is missing; write one with {' and '.join(required)}'")] if required else []


def _unused(note: Field, field: str, default: Any) -> str:
    if note.when:
        return f"!{field}.optMap(self, {note.when}).orValue(false)"
    if default is not None:
        literal = _literal(default)
        return f"{field}.orValue({literal}) == {literal}"
    return f"!{field}.hasValue()"


def _literal(value: Any) -> str:
    """A CEL literal; members are `dyn`, because the API server's CEL wants literals of one type otherwise."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: dyn({_literal(item)})" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(f"dyn({_literal(item)})" for item in value) + "]"
    return json.dumps(value)


def version_variables(path: str) -> dict[str, str]:
    """The variables that `version_rules` uses; none for an empty path."""
    if not path:
        return {}
    chain = "".join(f".?{name}" for name in path.split("."))
    return {
        "version": f"object{chain}.orValue('').replace('v', '', 1)",
        "oldVersion": f"oldObject == null ? '' : oldObject{chain}.orValue('').replace('v', '', 1)",
    }


def version_rules(path: str, kubernetes_versions: Sequence[str]) -> list[Rule]:
    """A Kubernetes version in the field `path` is one of these, does not go back and skips no minor; none for an empty path."""
    if not path:
        return []
    known = json.dumps([version.removeprefix("v") for version in kubernetes_versions])
    listed = ", ".join(kubernetes_versions)
    return [
        Rule(
            "!isSemver(variables.version) || !isSemver(variables.oldVersion)"
            " || !semver(variables.version).isLessThan(semver(variables.oldVersion))",
            f"'{path}: Kubernetes cannot go back from ' + variables.oldVersion + ' to ' + variables.version"
            " + '; make a new cluster with the older version'",
        ),
        Rule(
            f"variables.version == variables.oldVersion || variables.version in {known}",
            f"'{path}: this cloud has no Kubernetes ' + variables.version + '; write one of: {listed}'",
        ),
        Rule(
            "!isSemver(variables.version) || !isSemver(variables.oldVersion)"
            " || (semver(variables.version).major() == semver(variables.oldVersion).major()"
            " && semver(variables.version).minor() <= semver(variables.oldVersion).minor() + 1)",
            f"'{path}: ' + variables.oldVersion + ' to ' + variables.version + ' skips a minor version; upgrade one minor at a time'",
        ),
    ]


def _policy(
    resource: Resource,
    name: str,
    action: str,
    validations: list[JsonObject],
    conditions: list[dict[str, str]],
    variables: Mapping[str, str],
) -> list[JsonObject]:
    full_name = f"pilvi-{name}-{resource.plural}"
    spec: JsonObject = {
        "failurePolicy": "Fail" if action == "Deny" else "Ignore",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [resource.group],
                    "apiVersions": ["*"],
                    "resources": [resource.plural],
                    "operations": ["CREATE", "UPDATE"],
                }
            ]
        },
        "matchConditions": conditions,
    }
    if variables:
        spec["variables"] = [{"name": variable, "expression": expression} for variable, expression in variables.items()]
    spec["validations"] = validations
    api_version = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": full_name}, "spec": spec},
        {
            "apiVersion": api_version,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": full_name},
            "spec": {"policyName": full_name, "validationActions": [action]},
        },
    ]
