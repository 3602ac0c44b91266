from ipaddress import IPv4Network
from typing import Any

from pilvi.api.cluster import cluster_policies

CLOUD = {"the cloud's range": IPv4Network("10.250.1.0/24")}


def spec() -> dict[str, Any]:
    policy, binding = cluster_policies(["v1.36.3", "v1.37.2"], CLOUD)
    assert binding["spec"] == {"policyName": "pilvi-refused-clusters", "validationActions": ["Deny"]}
    found: dict[str, Any] = policy["spec"]
    return found


def test_it_looks_at_clusters_of_every_version_when_their_spec_changes() -> None:
    (rule,) = spec()["matchConstraints"]["resourceRules"]
    assert (rule["apiGroups"], rule["apiVersions"], rule["resources"]) == (["cluster.x-k8s.io"], ["*"], ["clusters"])
    assert {"spec-changes", "not-deleted"} <= {condition["name"] for condition in spec()["matchConditions"]}


def test_versions_names_replicas_and_ranges_are_looked_at() -> None:
    messages = [rule["messageExpression"] for rule in spec()["validations"]]
    for words in (
        "cannot go back",
        "write one of: v1.36.3, v1.37.2",
        "skips a minor",
        "metadata.name",
        "replicas",
        "and services",
        "and the cloud's range 10.250.1.0/24 overlap",
    ):
        assert any(words in message for message in messages), words


def test_ranges_that_are_not_written_have_their_defaults() -> None:
    variables = {variable["name"]: variable["expression"] for variable in spec()["variables"]}
    assert variables["pods"].endswith("['10.244.0.0/16']")
    assert variables["services"].endswith("['10.96.0.0/16']")


def test_what_was_taken_once_keeps_being_taken() -> None:
    """Ranges and names of a Cluster that is there are not judged again, or its controllers could not write it any more."""
    rules = [rule for rule in spec()["validations"] if "clusterNetwork" in rule["messageExpression"]]
    assert rules
    assert all(rule["expression"].startswith("variables.knownRanges || ") for rule in rules)
    (name,) = (rule for rule in spec()["validations"] if "metadata.name" in rule["messageExpression"])
    assert name["expression"].startswith("oldObject != null || ")
