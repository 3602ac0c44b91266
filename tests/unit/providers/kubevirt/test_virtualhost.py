from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.virtualhost.capacity import Capacity, allocatable, as_resources, parse_meminfo, read_capacity, share
from pilvi.providers.kubevirt.virtualhost.node import (
    FAILED_TAINT,
    TAINT,
    HostFacts,
    new_lease,
    new_node,
    node_labels,
    plan_node_patch,
    plan_node_status,
)

GIB = 1024**3
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = HostFacts("box", "abcde", IPv4Address("10.250.0.1"), "6.1", "Debian", "machine", "boot", "0.1.0")


def write_proc(tmp_path: Path, memory_kib: int) -> Path:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n")
    (tmp_path / "meminfo").write_text(f"MemTotal:       {memory_kib} kB\nHugePages_Total:       0\n")
    return tmp_path


def test_capacity_is_the_hosts(tmp_path: Path) -> None:
    assert read_capacity(write_proc(tmp_path, 4 * 1024**2), tmp_path) == Capacity(2000, 4 * GIB)


@pytest.mark.parametrize(("name", "text", "memory"), [("memory.max", "2147483648\n", 2 * GIB), ("memory.max", "max\n", 4 * GIB)])
def test_a_containers_limit_counts(tmp_path: Path, name: str, text: str, memory: int) -> None:
    (tmp_path / name).write_text(text)
    assert read_capacity(write_proc(tmp_path, 4 * 1024**2), tmp_path).memory_bytes == memory


def test_meminfo() -> None:
    assert parse_meminfo("MemTotal: 10 kB\nHugePages_Free: 3\n\n") == {"MemTotal": 10240, "HugePages_Free": 3}


def test_two_default_workers_fit_beside_the_first_cluster_on_the_smallest_host() -> None:
    left = allocatable(Capacity(2000, 4 * GIB), tenant_planes=1)
    assert left.memory_bytes >= 2 * GIB
    assert left.cpu_milli >= 2 * 200


def test_a_crowded_host_has_nothing_left_but_no_negative_number() -> None:
    left = allocatable(Capacity(1000, GIB), tenant_planes=50)
    assert left.memory_bytes == 0
    assert left.cpu_milli > 0
    assert as_resources(left)["memory"] == "0"


def test_the_node_is_only_for_machines() -> None:
    node = new_node(FACTS)
    assert node["spec"]["taints"] == [{"key": "pilvi.dev/machines-only", "effect": "NoSchedule"}]
    assert node["metadata"]["labels"] == node_labels(FACTS)
    assert plan_node_patch(FACTS, node) == {}


def test_only_what_is_missing_is_put_back() -> None:
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    node: JsonObject = {
        "metadata": {"labels": {**node_labels(FACTS), "zone": "a", "pilvi.dev/cloud": "wrong"}},
        "spec": {"taints": [cordon]},
    }
    patch = plan_node_patch(FACTS, node)
    assert patch["metadata"] == {"labels": {"pilvi.dev/cloud": "abcde"}}
    assert patch["spec"]["taints"][0] == cordon


def test_a_host_that_fails_keeps_machines_away_until_it_is_back() -> None:
    node = new_node(FACTS)
    patch = plan_node_patch(FACTS, node, failed=True)
    assert patch == {"spec": {"taints": [TAINT, FAILED_TAINT]}}
    failed = {**node, "spec": {**node["spec"], **patch["spec"]}}
    assert plan_node_patch(FACTS, failed, failed=True) == {}
    assert plan_node_patch(FACTS, failed) == {"spec": {"taints": [TAINT]}}
    status = plan_node_status(FACTS, Capacity(1, 1), Capacity(1, 1), {}, {}, NOW, failed=True)
    assert next(entry["status"] for entry in status["conditions"] if entry["type"] == "Ready") == "Unknown"


def test_a_host_that_goes_is_cordoned() -> None:
    node = new_node(FACTS)
    assert plan_node_patch(FACTS, node, leaving=True) == {"spec": {"unschedulable": True}}
    node["spec"]["unschedulable"] = True
    assert plan_node_patch(FACTS, node, leaving=True) == {}


def test_hosts_share_the_machine() -> None:
    assert share(Capacity(4000, 8 * GIB), 4) == Capacity(1000, 2 * GIB)


def test_status_is_stable_and_times_stay() -> None:
    capacity = Capacity(2000, 4 * GIB)
    first = plan_node_status(FACTS, capacity, capacity, {}, {}, NOW)
    later = plan_node_status(FACTS, capacity, capacity, {}, first, datetime(2027, 1, 1, tzinfo=UTC))
    assert later == first
    assert {entry["type"]: entry["status"] for entry in first["conditions"]}["Ready"] == "True"


def test_an_absence_of_the_engine_ends_with_a_new_time() -> None:
    unknown = [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2025-01-01T00:00:00Z"}]
    status = plan_node_status(FACTS, Capacity(1, 1), Capacity(1, 1), {}, {"conditions": unknown}, NOW)
    ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", "2026-01-01T00:00:00Z")


def test_the_lease_is_renewed_well_before_it_ends() -> None:
    spec = new_lease(FACTS, "uid", NOW)["spec"]
    assert spec["renewTime"] == "2026-01-01T00:00:00.000000Z"
    assert spec["leaseDurationSeconds"] == 40


def test_huge_pages_are_told_and_are_no_ordinary_memory(tmp_path: Path) -> None:
    for name, count in (("hugepages-2048kB", 512), ("hugepages-1048576kB", 0)):
        (tmp_path / "pages" / name).mkdir(parents=True)
        (tmp_path / "pages" / name / "nr_hugepages").write_text(f"{count}\n")
    capacity = read_capacity(write_proc(tmp_path, 8 * 1024**2), tmp_path, tmp_path / "pages")
    assert as_resources(capacity) == {"cpu": "2", "memory": "8Gi", "pods": "250", "hugepages-2Mi": "1Gi"}
    assert allocatable(capacity, 0).memory_bytes == allocatable(Capacity(2000, 7 * GIB), 0).memory_bytes
