"""An instancetype and a machine's template: what comes out, and what conflicts."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instancetype.expand import Chosen, expand
from pilvi.providers.kubevirt.instancetype.topology import find_spread_fault, plan_topology

SMALL: JsonObject = {"cpu": {"guest": 2}, "memory": {"guest": "2Gi"}}


def template(annotations: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    return {"metadata": {"annotations": annotations or {}}, "spec": {"domain": {"devices": {}}, **spec}}


def spread(ratio: int | None = None, across: str | None = None) -> JsonObject:
    options = {name: value for name, value in (("ratio", ratio), ("across", across)) if value}
    return {"cpu": {"preferredCPUTopology": "spread", "spreadOptions": options}}


TOPOLOGIES: list[tuple[int, JsonObject | None, tuple[int, int, int]]] = [
    (4, None, (4, 1, 1)),
    (4, {}, (4, 1, 1)),
    (4, {"cpu": {"preferredCPUTopology": "any"}}, (4, 1, 1)),
    (4, {"cpu": {"preferredCPUTopology": "cores"}}, (1, 4, 1)),
    (4, {"cpu": {"preferredCPUTopology": "preferCores"}}, (1, 4, 1)),
    (4, {"cpu": {"preferredCPUTopology": "threads"}}, (1, 1, 4)),
    (1, {"cpu": {"preferredCPUTopology": "spread"}}, (1, 1, 1)),
    (8, spread(), (4, 2, 1)),
    (8, spread(4), (2, 4, 1)),
    (8, {**spread(), "preferSpreadSocketToCoreRatio": 4}, (2, 4, 1)),
    (8, spread(None, "CoresThreads"), (1, 4, 2)),
    (8, spread(2, "SocketsCoresThreads"), (2, 2, 2)),
]


@pytest.mark.parametrize(("vcpus", "preference", "expected"), TOPOLOGIES)
def test_topologies(vcpus: int, preference: JsonObject | None, expected: tuple[int, int, int]) -> None:
    planned = plan_topology(vcpus, preference)
    assert (planned["sockets"], planned["cores"], planned["threads"]) == expected
    assert find_spread_fault(vcpus, preference) is None


@pytest.mark.parametrize(("vcpus", "preference"), [(3, spread()), (6, spread(4)), (6, spread(2, "SocketsCoresThreads")), (2, spread(4))])
def test_what_cannot_be_spread(vcpus: int, preference: JsonObject) -> None:
    fault = find_spread_fault(vcpus, preference)
    assert fault is not None
    assert f"{vcpus} vCPUs provided by the instance type are not divisible by" in fault
    with pytest.raises(UserError, match="not divisible"):
        expand(template(), Chosen({**SMALL, "cpu": {"guest": vcpus}}, preference))


def test_the_size_goes_into_the_template() -> None:
    instancetype = {
        "cpu": {"guest": 2, "model": "Haswell", "maxSockets": 8, "dedicatedCPUPlacement": True},
        "memory": {"guest": "2Gi", "maxGuest": "4Gi"},
        "nodeSelector": {"disk": "fast"},
        "schedulerName": "mine",
        "ioThreadsPolicy": "shared",
        "annotations": {"team": "a"},
    }
    given = template({"note": "kept", "team": "a"})
    expanded = expand(given, Chosen(instancetype, None, (("kubevirt.io/cluster-instancetype-name", "small"),)))
    spec = expanded["spec"]
    cpu = {"sockets": 2, "cores": 1, "threads": 1, "model": "Haswell", "maxSockets": 8, "dedicatedCpuPlacement": True}
    assert spec["domain"]["cpu"] == cpu
    assert spec["domain"]["memory"] == {"guest": "2Gi", "maxGuest": "4Gi"}
    assert (spec["nodeSelector"], spec["schedulerName"], spec["domain"]["ioThreadsPolicy"]) == ({"disk": "fast"}, "mine", "shared")
    assert "resources" not in spec["domain"]
    annotations = {"note": "kept", "team": "a", "kubevirt.io/cluster-instancetype-name": "small"}
    assert expanded["metadata"]["annotations"] == annotations
    assert given == template({"note": "kept", "team": "a"}), "what came in is as it was"


@pytest.mark.parametrize(("percent", "reserved"), [(50, "1Gi"), (25, "1536Mi"), (100, "0")])
def test_overcommit_reserves_less(percent: int, reserved: str) -> None:
    instancetype = {**SMALL, "memory": {"guest": "2Gi", "overcommitPercent": percent}}
    domain = expand(template(), Chosen(instancetype))["spec"]["domain"]
    assert (domain["memory"]["guest"], domain["resources"]["requests"]) == ("2Gi", {"memory": reserved})


CONFLICTS: list[tuple[JsonObject, JsonObject, str]] = [
    ({}, {"domain": {"cpu": {"cores": 1}}}, "spec.template.spec.domain.cpu.cores"),
    ({}, {"domain": {"cpu": {"sockets": 1}}}, "spec.template.spec.domain.cpu.sockets"),
    ({}, {"domain": {"cpu": {"threads": 1}}}, "spec.template.spec.domain.cpu.threads"),
    ({}, {"domain": {"memory": {"guest": "1Gi"}}}, "spec.template.spec.domain.memory.guest"),
    ({}, {"domain": {"resources": {"requests": {"memory": "1Gi"}}}}, "spec.template.spec.domain.resources.requests.memory"),
    ({}, {"domain": {"resources": {"limits": {"cpu": 1}}}}, "spec.template.spec.domain.resources.limits.cpu"),
    ({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"c": "d"}}, "spec.template.spec.nodeSelector"),
    ({"schedulerName": "a"}, {"schedulerName": "a"}, "spec.template.spec.schedulerName"),
    ({"cpu": {"guest": 1, "model": "a"}}, {"domain": {"cpu": {"model": "b"}}}, "spec.template.spec.domain.cpu.model"),
    ({"annotations": {"team": "b"}}, {}, "spec.template.metadata.annotations.team"),
    (
        {"memory": {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}},
        {"domain": {"memory": {"hugepages": {"pageSize": "1Gi"}}}},
        "spec.template.spec.domain.memory.hugepages",
    ),
]


@pytest.mark.parametrize(("instancetype", "spec", "path"), CONFLICTS)
def test_conflicts_are_named(instancetype: JsonObject, spec: JsonObject, path: str) -> None:
    with pytest.raises(UserError) as refused:
        expand(template({"team": "a"}, **spec), Chosen({**SMALL, **instancetype}))
    assert str(refused.value) == f"VM field(s) {path} conflicts with selected instance type"


def test_all_conflicts_at_once() -> None:
    with pytest.raises(UserError, match=r"domain\.cpu\.cores, .*domain\.memory\.guest conflicts"):
        expand(template(domain={"cpu": {"cores": 2}, "memory": {"guest": "1Gi"}}), Chosen(SMALL))


def test_what_the_instancetype_leaves_open_is_the_machines() -> None:
    domain = {"cpu": {"model": "Haswell", "maxSockets": 4}, "memory": {"hugepages": {"pageSize": "2Mi"}}}
    spec = expand(template(domain=domain, nodeSelector={"a": "b"}), Chosen(SMALL))["spec"]
    assert (spec["domain"]["cpu"]["model"], spec["domain"]["cpu"]["maxSockets"]) == ("Haswell", 4)
    assert spec["domain"]["memory"] == {"guest": "2Gi", "hugepages": {"pageSize": "2Mi"}}
    assert spec["nodeSelector"] == {"a": "b"}


def test_memory_that_was_meant_for_a_volume_without_a_word() -> None:
    given = template(domain={"memory": {"guest": "512Mi"}})
    assert expand(given, Chosen(SMALL, replaces_memory=True))["spec"]["domain"]["memory"] == {"guest": "2Gi"}
    assert expand(given, Chosen(None, {}, replaces_memory=True))["spec"]["domain"]["memory"] == {"guest": "512Mi"}


def test_nothing_chosen_changes_nothing() -> None:
    given = template()
    assert expand(given, Chosen()) is given
    assert expand({"spec": {"domain": None}}, Chosen(SMALL))["spec"]["domain"]["memory"] == {"guest": "2Gi"}
