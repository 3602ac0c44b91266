"""Conditions, owners, predicates, metrics."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pilvi.api import JsonObject, Key, Resource
from pilvi.runtime import (
    Metrics,
    condition,
    conditions_changed,
    controller_key,
    controller_of,
    desire_changed,
    find_condition,
    is_controlled_by,
    is_true,
    merge_conditions,
    owner_reference,
    set_condition,
)

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATE = datetime(2026, 1, 2, tzinfo=UTC)
VPCS = Resource("kubeovn.io", "v1", "vpcs", "Vpc", namespaced=False)
THINGS = Resource("t.dev", "v1", "things", "Thing")


def test_the_time_changes_with_the_status_only() -> None:
    first = set_condition(None, "Ready", False, "Booting", "the machine boots", observed_generation=1, now=EARLY)
    assert first == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Booting",
            "message": "the machine boots",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]
    same = set_condition(first, "Ready", "False", "Failed", "the machine broke", now=LATE)
    assert (same[0]["reason"], same[0]["lastTransitionTime"]) == ("Failed", "2026-01-01T00:00:00Z")
    assert set_condition(same, "Ready", True, "Up", now=LATE)[0]["lastTransitionTime"] == "2026-01-02T00:00:00Z"
    assert first[0]["reason"] == "Booting", "the argument was changed"


def test_an_unchanged_set_is_equal() -> None:
    stored = merge_conditions(None, [condition("A", True, "R"), condition("B", "Unknown", "R")], now=EARLY)
    assert merge_conditions(stored, [condition("B", "Unknown", "R"), condition("A", True, "R")], now=LATE) == stored


def test_types_of_others_are_kept() -> None:
    others = {"type": "Theirs", "status": "True", "extra": 1}
    merged = merge_conditions([others], [condition("Ours", True, "R")], now=EARLY)
    assert [entry["type"] for entry in merged] == ["Theirs", "Ours"]
    assert merged[0] == others


@pytest.mark.parametrize("obj", [{}, {"status": None}, {"status": {"conditions": None}}])
def test_nulls_are_no_conditions(obj: JsonObject) -> None:
    assert find_condition(obj, "Ready") is None
    assert not is_true(obj, "Ready")


def test_owner_references() -> None:
    owner = THINGS.new(Key("default", "a"), metadata={"uid": "1"})
    child = THINGS.new(Key("default", "b"), metadata={"ownerReferences": [{"kind": "X", "uid": "0"}, owner_reference(owner)]})
    assert controller_of(child) == owner_reference(owner)
    assert is_controlled_by(child, owner)
    assert not is_controlled_by(child, {**owner, "metadata": {"uid": "2", "name": "a"}})
    assert controller_key(child, THINGS) == Key("default", "a")
    assert controller_key(child, VPCS) is None
    vpc = VPCS.new(Key("", "v"), metadata={"uid": "3"})
    of_vpc = THINGS.new(Key("default", "c"), metadata={"ownerReferences": [owner_reference(vpc)]})
    assert controller_key(of_vpc, VPCS) == Key("", "v")
    assert controller_of(THINGS.new(Key("default", "d"), metadata={"ownerReferences": None})) is None


def test_predicates() -> None:
    old = {"metadata": {"generation": 1, "labels": {"a": "b"}}, "status": {"n": 1, "conditions": [{"type": "R", "status": "True"}]}}
    status_only = {**old, "status": {"n": 2, "conditions": [{"type": "R", "status": "True", "message": "x"}]}}
    assert not desire_changed(old, status_only)
    assert not conditions_changed(old, status_only)
    assert conditions_changed(old, {**old, "status": {"conditions": [{"type": "R", "status": "False"}]}})
    assert desire_changed(old, {"metadata": {"generation": 2, "labels": {"a": "b"}}})
    assert desire_changed(old, {"metadata": {"generation": 1, "labels": {"a": "c"}}})
    assert desire_changed(old, {"metadata": {**old["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert desire_changed({"metadata": {}, "data": 1}, {"metadata": {}, "data": 2})


def test_metrics_text() -> None:
    metrics = Metrics()
    metrics.counter("runs_total", "Runs.")
    metrics.gauge("depth", "Depth.")
    metrics.add("runs_total", controller="b")
    metrics.add("runs_total", 2, controller='a"\\\n')
    metrics.set("depth", 1.5)
    metrics.set_source("depth", lambda: 7, tenant="t")
    assert metrics.render() == (
        "# HELP depth Depth.\n# TYPE depth gauge\ndepth 1.5\n"
        'depth{tenant="t"} 7\n'
        "# HELP runs_total Runs.\n# TYPE runs_total counter\n"
        'runs_total{controller="a\\"\\\\\\n"} 2\nruns_total{controller="b"} 1\n'
    )
    metrics.remove(tenant="t")
    assert "tenant" not in metrics.render()
    with pytest.raises(KeyError):
        metrics.add("unknown")
