from __future__ import annotations

from typing import Any

from pilvi.api.crds import KINDS, all_policies
from pilvi.api.field import Level
from pilvi.api.policies import leaves, policies_of
from tests.unit.api.toy import Toy

FOUND = {leaf.path: leaf for leaf in leaves(Toy)}


def policy(name: str) -> dict[str, Any]:
    return next(
        obj for obj in policies_of(Toy, ["v1.37.2"]) if obj["metadata"]["name"] == name and obj["kind"] == "ValidatingAdmissionPolicy"
    )


def test_only_the_outermost_field_counts() -> None:
    assert list(FOUND) == [
        "spec.bad",
        "spec.idle",
        "spec.inner.size",
        "spec.inner.unknown",
        "spec.items[].size",
        "spec.items[].unknown",
        "spec.opaque",
    ]


def test_a_plain_field_is_unused_when_absent() -> None:
    assert FOUND["spec.opaque"].unused == "!object.?spec.?opaque.hasValue()"
    assert FOUND["spec.inner.unknown"].unused == "!object.?spec.?inner.?unknown.hasValue()"


def test_a_field_that_the_api_server_fills_is_unused_at_its_default_with_the_defaults_below() -> None:
    literal = '{"value": dyn(false), "key": dyn("x")}'
    assert FOUND["spec.idle"].unused == f"object.?spec.?idle.orValue({literal}) == {literal}"


def test_a_level_for_some_values() -> None:
    assert FOUND["spec.inner.size"].unused == "!object.?spec.?inner.?size.optMap(self, self > 1).orValue(false)"


def test_fields_of_list_items() -> None:
    assert FOUND["spec.items[].unknown"].unused == "object.?spec.?items.orValue([]).all(item, !item.?unknown.hasValue())"


def test_the_refusing_policy() -> None:
    refused = policy("pilvi-refused-toys")
    spec = refused["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"]["resourceRules"][0]["resources"] == ["toys"]
    assert [condition["name"] for condition in spec["matchConditions"]] == ["spec-changes", "not-deleted", "no-topology-dry-run"]
    assert {variable["name"] for variable in spec["variables"]} == {"here", "version", "oldVersion"}
    assert spec["validations"][:2] == [
        {"expression": "!object.?spec.?bad.hasValue()", "message": "spec.bad: it is unsafe. Instead: must: b"},
        {"expression": "variables.here.must == 'a'", "messageExpression": "'must be a'"},
    ]
    known = next(rule for rule in spec["validations"] if "no Kubernetes" in rule.get("messageExpression", ""))
    assert known["expression"] == 'variables.version == variables.oldVersion || variables.version in ["1.37.2"]'


def test_the_warning_policy() -> None:
    accepted = policy("pilvi-accepted-toys")
    assert accepted["spec"]["failurePolicy"] == "Ignore"
    assert accepted["spec"]["matchConditions"][0]["name"] == "not-pilvi-itself"
    messages = [rule["message"] for rule in accepted["spec"]["validations"]]
    assert "spec.idle has no effect: no need" in messages
    assert "spec.items[].unknown has no effect: not implemented yet" in messages
    assert not any("spec.bad" in message for message in messages)


def test_every_policy_has_a_binding_of_its_name() -> None:
    found = all_policies(["v1.37.2"])
    by_kind: dict[str, dict[str, Any]] = {"ValidatingAdmissionPolicy": {}, "ValidatingAdmissionPolicyBinding": {}}
    for obj in found:
        by_kind[obj["kind"]][obj["metadata"]["name"]] = obj
    policies, bindings = by_kind.values()
    assert set(policies) == set(bindings)
    assert len(policies) + len(bindings) == len(found)
    for name, binding in bindings.items():
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny" if "-refused-" in name else "Warn"]}


def test_every_kind_that_has_idle_fields_warns() -> None:
    names = {obj["metadata"]["name"] for obj in all_policies(["v1.37.2"])}
    for kind in KINDS:
        idle = any(leaf.note.level is Level.ACCEPTED for leaf in leaves(kind))
        assert (f"pilvi-accepted-{kind.RESOURCE.plural}" in names) == idle
    assert {f"pilvi-accepted-{plural}" for plural in ("subnets", "virtualmachines", "datavolumes")} <= names


def test_a_kind_whose_spec_has_required_fields_asks_for_one() -> None:
    asked = {
        kind.RESOURCE.kind
        for kind in KINDS
        for obj in policies_of(kind, ["v1.37.2"])
        for rule in obj["spec"].get("validations", ())
        if rule["expression"] == "has(object.spec)"
    }
    assert {"TenantControlPlane", "KamajiControlPlane", "KubevirtMachineTemplate", "DataStore"} <= asked
    assert not asked & {"Vpc", "IP", "KubevirtCluster", "VirtualMachine"}
