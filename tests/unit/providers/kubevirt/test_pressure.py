"""What the host runs short of: from the kernel's files, by limits with a gap between beginning and end, as a Node's conditions."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.virtualhost.capacity import Capacity
from pilvi.providers.kubevirt.virtualhost.node import plan_node_status
from pilvi.providers.kubevirt.virtualhost.pressure import PRESSURES, Figures, Room, describe_pressure, find_pressures, read_figures
from tests.unit.providers.kubevirt.test_virtualhost import FACTS

MIB = 1024**2
PLENTY = Figures(
    Path("/var/lib/pilvi"),
    memory=Room(2048 * MIB, 4096 * MIB),
    disk=Room(50_000 * MIB, 100_000 * MIB),
    inodes=Room(10**6, 10**7),
    pids=Room(30_000, 32_768),
)


@pytest.mark.parametrize(
    ("field", "kind", "limit"),
    [
        ("memory", "MemoryPressure", 100 * MIB),
        ("disk", "DiskPressure", 2048 * MIB),
        ("inodes", "DiskPressure", 20_000),
        ("pids", "PIDPressure", 1000),
    ],
)
def test_pressure_begins_below_a_limit_and_ends_well_above(field: str, kind: str, limit: int) -> None:
    def find(available: int, *before: str) -> set[str]:
        total = getattr(PLENTY, field).total
        return set(find_pressures(replace(PLENTY, **{field: Room(available, total)}), before))

    assert find(limit) == set()
    assert find(limit - 1) == {kind}
    assert find(limit * 3 // 2 - 1, kind) == {kind}
    assert find(limit * 3 // 2, kind) == set()


def test_of_a_small_disk_a_tenth_counts() -> None:
    small = Room(300 * MIB, 2500 * MIB)
    assert find_pressures(replace(PLENTY, disk=small), ()) == {}
    assert "250 MiB" in find_pressures(replace(PLENTY, disk=Room(249 * MIB, 2500 * MIB)), ())["DiskPressure"]


def test_a_file_system_without_a_number_of_inodes_is_not_short_of_them() -> None:
    assert find_pressures(replace(PLENTY, inodes=Room(0, 0)), ()) == {}


@given(st.integers(0, 3000), st.booleans())
def test_a_message_does_not_change_with_the_figure(available: int, before: bool) -> None:
    """Each change would be a write."""
    now = find_pressures(replace(PLENTY, disk=Room(available * MIB, 100_000 * MIB)), ["DiskPressure"] if before else ())
    assert now in ({}, find_pressures(replace(PLENTY, disk=Room(0, 100_000 * MIB)), ()))


def write_host(folder: Path, available_kib: int = 2 * 1024**2) -> tuple[Path, Path]:
    """The kernel's files of a host with 4 GiB and 1234 tasks, without control groups."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    (proc / "sys/kernel").mkdir(parents=True)
    cgroups.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: 4194304 kB\nMemAvailable: {available_kib} kB\n")
    (proc / "loadavg").write_text("0.10 0.20 0.30 2/1234 99\n")
    (proc / "sys/kernel/pid_max").write_text("32768\n")
    (proc / "sys/kernel/threads-max").write_text("62000\n")
    return proc, cgroups


def test_figures_are_the_kernels(tmp_path: Path) -> None:
    proc, cgroups = write_host(tmp_path)
    figures = read_figures(tmp_path, proc, cgroups)
    disk = os.statvfs(tmp_path)
    assert figures.memory == Room(2048 * MIB, 4096 * MIB)
    assert figures.pids == Room(32768 - 1234, 32768)
    assert figures.disk.total == disk.f_blocks * disk.f_frsize
    assert 0 < figures.disk.available <= figures.disk.total
    assert figures.inodes.total == disk.f_files


def test_limits_of_a_container_count(tmp_path: Path) -> None:
    proc, cgroups = write_host(tmp_path)
    for name, text in {
        "memory.max": "1073741824",
        "memory.current": "1063256064",
        "memory.stat": "anon 5\ninactive_file 4194304\n",
        "pids.max": "500",
        "pids.current": "490",
    }.items():
        (cgroups / name).write_text(text)
    figures = read_figures(tmp_path, proc, cgroups)
    assert figures.memory == Room(14 * MIB, 1024 * MIB)
    assert figures.pids == Room(10, 500)
    assert set(find_pressures(replace(figures, disk=PLENTY.disk, inodes=PLENTY.inodes), ())) == {"MemoryPressure", "PIDPressure"}


def plan(pressures: dict[str, str], old: JsonObject, hour: int) -> JsonObject:
    return plan_node_status(FACTS, Capacity(1, 1), Capacity(1, 1), pressures, old, datetime(2026, 1, 1, hour, tzinfo=UTC))


def test_conditions_are_a_kubelets() -> None:
    calm = plan({}, {}, 0)
    short = plan({"DiskPressure": "less than 2 GiB"}, calm, 1)
    assert plan({"DiskPressure": "less than 2 GiB"}, short, 2) == short
    found = {entry["type"]: entry for entry in short["conditions"]}
    assert (found["DiskPressure"]["status"], found["DiskPressure"]["reason"]) == ("True", "HostHasDiskPressure")
    assert found["DiskPressure"]["lastTransitionTime"] == "2026-01-01T01:00:00Z"
    assert found["MemoryPressure"]["status"] == "False"
    assert found["Ready"]["status"] == "True"  # what runs there runs on
    assert describe_pressure({"status": short}) == "less than 2 GiB"
    assert describe_pressure({"status": plan({}, short, 2)}) == describe_pressure(None) == ""
    assert PRESSURES.keys() < found.keys()
