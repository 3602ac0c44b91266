"""What a replica set takes for its own, and how it comes to its number."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.replicaset.plan import BURST, is_active, new_replica, plan_claims, plan_scaling
from pilvi.providers.kubevirt.replicaset.selector import matches, render


def make_set(replicas: int | None = 2, *, deleting: bool = False, **spec: Any) -> JsonObject:
    metadata: JsonObject = {"name": "web", "namespace": "shop", "uid": "set-uid"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    template = {"metadata": {"labels": {"app": "web"}, "annotations": {"note": "kept"}}, "spec": {"domain": {"memory": {"guest": "64Mi"}}}}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def make_replica(
    name: str, phase: str = "Running", *, owner: str | None = "set-uid", ready: str = "True", reason: str = "", **metadata: Any
) -> JsonObject:
    owners = [{"apiVersion": "x", "kind": "X", "name": "x", "uid": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}, "ownerReferences": owners, **metadata},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "reason": reason}]},
    }


def names(objects: list[JsonObject]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


def test_claims() -> None:
    instances = [
        make_replica("own"),
        make_replica("changed", labels={"app": "db"}),
        make_replica("orphan", owner=None),
        make_replica("going", owner=None, deletionTimestamp="now"),
        make_replica("stranger", owner=None, labels={"app": "db"}),
        make_replica("of-another", owner="other"),
    ]
    claims = plan_claims(make_set(), instances)
    assert (names(claims.owned), names(claims.adopted), names(claims.released)) == (["own"], ["orphan"], ["changed"])
    going = plan_claims(make_set(deleting=True), instances)
    assert (names(going.owned), names(going.adopted), names(going.released)) == (["own", "changed"], [], [])


SCALINGS: list[tuple[JsonObject, list[JsonObject], int, list[str], list[str]]] = [
    (make_set(), [], 2, [], []),
    (make_set(None), [], 1, [], []),
    (make_set(0), [make_replica("a")], 0, ["a"], []),
    (make_set(), [make_replica("a"), make_replica("b", deletionTimestamp="now")], 1, [], []),
    (make_set(), [make_replica("a"), make_replica("b", "Failed")], 1, [], ["b"]),
    (make_set(), [make_replica("a"), make_replica("b", "Succeeded", deletionTimestamp="now")], 1, [], []),
    (make_set(), [make_replica("a"), make_replica("b", ready="False", reason="PodTerminating")], 1, [], ["b"]),
    (make_set(paused=True), [make_replica("a", "Failed")], 0, [], []),
    (make_set(deleting=True), [make_replica("a", "Failed")], 0, [], []),
    (make_set(1000), [], BURST, [], []),
    (
        make_set(1),
        [
            make_replica("old", creationTimestamp="2026-01-01T00:00:00Z"),
            make_replica("new", creationTimestamp="2026-01-02T00:00:00Z"),
            make_replica("unready", ready="False", creationTimestamp="2026-01-01T00:00:00Z"),
            make_replica("starting", "Scheduling", creationTimestamp="2026-01-01T00:00:00Z"),
        ],
        0,
        ["starting", "unready", "new"],
        [],
    ),
]


@pytest.mark.parametrize(("replica_set", "owned", "missing", "surplus", "ended"), SCALINGS)
def test_scaling(replica_set: JsonObject, owned: list[JsonObject], missing: int, surplus: list[str], ended: list[str]) -> None:
    scaling = plan_scaling(replica_set, owned)
    assert (scaling.missing, names(scaling.surplus), names(scaling.ended)) == (missing, surplus, ended)


def test_a_replica_is_as_the_template_says() -> None:
    one, two = new_replica(make_set()), new_replica(make_set())
    assert one["metadata"]["name"] != two["metadata"]["name"]
    assert one["metadata"]["name"].startswith("web")
    assert (one["metadata"]["labels"], one["metadata"]["annotations"]) == ({"app": "web"}, {"note": "kept"})
    assert one["metadata"]["ownerReferences"][0]["uid"] == "set-uid"
    assert one["spec"]["domain"]["firmware"]["uuid"] != two["spec"]["domain"]["firmware"]["uuid"]
    assert is_active(one)
    long = make_set()
    long["metadata"]["name"] = "x" * 100
    assert len(new_replica(long)["metadata"]["name"]) == 63


def term(operator: str, *values: str) -> JsonObject:
    return {"matchExpressions": [{"key": "tier", "operator": operator, "values": [*values]}]}


@pytest.mark.parametrize(
    ("selector", "text", "fits", "fits_without"),
    [
        ({"matchLabels": {"tier": "a"}}, "tier=a", True, False),
        ({"matchLabels": {"tier": "b"}}, "tier=b", False, False),
        (term("In", "b", "a"), "tier in (a,b)", True, False),
        (term("In", "b"), "tier in (b)", False, False),
        (term("NotIn", "b"), "tier notin (b)", True, True),
        (term("NotIn", "a"), "tier notin (a)", False, True),
        (term("Exists"), "tier", True, False),
        (term("DoesNotExist"), "!tier", False, True),
        ({"matchLabels": {"z": "1", "a": "1"}}, "a=1,z=1", False, False),
        (term("Near"), "tier", False, False),
    ],
)
def test_selectors(selector: JsonObject, text: str, fits: bool, fits_without: bool) -> None:
    assert (render(selector), matches(selector, {"tier": "a"}), matches(selector, {})) == (text, fits, fits_without)
