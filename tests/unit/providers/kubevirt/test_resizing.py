"""A machine that grows while it runs, against what its host has."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.instance.resizing import Granted, find_granted, find_shortage, size_conditions
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.sizing import Size

GIB = 1 << 30
NODE = {"status": {"allocatable": {"cpu": "1", "memory": "4Gi"}}}


def pod(name: str, cpu: str, memory: str, phase: str = "Running", **metadata: Any) -> JsonObject:
    requests = {"cpu": cpu, "memory": memory}
    return {
        "metadata": {"name": name, "uid": name, **metadata},
        "spec": {"containers": [{"name": "compute", "resources": {"requests": requests}}]},
        "status": {"phase": phase},
    }


MINE = pod("mine", "200m", "2Gi")


@pytest.mark.parametrize(
    ("others", "cpu", "memory", "words"),
    [
        ([], "1", "4Gi", None),
        ([], "1001m", "2Gi", "has 1 of cpu"),
        ([], "200m", "5Gi", "has 4Gi of memory"),
        ([pod("a", "300m", "1Gi"), pod("b", "0", "1Gi")], "700m", "2Gi", None),
        ([pod("a", "300m", "1Gi"), pod("b", "0", "1Gi")], "701m", "2Gi", "has 700m of cpu"),
        ([pod("a", "300m", "1Gi"), pod("b", "0", "1Gi")], "200m", "3Gi", "has 2Gi of memory"),
        # Its own share counts once, and what has ended or ends does not.
        ([MINE, pod("a", "900m", "3Gi", "Failed"), pod("b", "900m", "3Gi", deletionTimestamp="now")], "1", "4Gi", None),
        # A host that is full already: what the machine has, it keeps.
        ([pod("a", "2", "9Gi")], "100m", "2Gi", None),
    ],
)
def test_room_of_the_host(others: list[JsonObject], cpu: str, memory: str, words: str | None) -> None:
    found = find_shortage(NODE, others, MINE, {"cpu": cpu, "memory": memory})
    assert (found is None) if words is None else (found is not None and words in found)


def test_what_was_granted_last_is_what_the_status_says() -> None:
    asked = Size(4, 2, 1, 3 * GIB)
    status = {"currentCPUTopology": {"sockets": 2, "cores": 2, "threads": 1}, "memory": {"guestRequested": "2Gi"}}
    assert find_granted({"status": status}, asked) == Size(2, 2, 1, 2 * GIB)
    assert find_granted({}, asked) == asked


ASKED = Size(2, 1, 1, 2 * GIB)
BEFORE = Size(1, 1, 1, GIB)


@pytest.mark.parametrize(
    ("granted", "machine", "found"),
    [
        (Granted(ASKED), MachineState("running"), []),
        (Granted(ASKED), MachineState("running", sockets=2, memory_at_start_bytes=GIB, memory_bytes=2 * GIB), []),
        (
            Granted(ASKED),
            MachineState("running", sockets=1, memory_at_start_bytes=GIB, memory_bytes=GIB),
            [("HotVCPUChange", "True", "sees 1"), ("HotMemoryChange", "True", "has 1Gi")],
        ),
        (
            Granted(BEFORE, "no room"),
            MachineState("running", sockets=1, memory_at_start_bytes=GIB, memory_bytes=GIB),
            [("HotVCPUChange", "False", "no room"), ("HotMemoryChange", "False", "no room")],
        ),
        (
            Granted(ASKED),
            MachineState("running", sockets=1, memory_at_start_bytes=GIB, memory_bytes=2 * GIB, unchanged={"processors": "QEMU says no"}),
            [("HotVCPUChange", "False", "QEMU says no")],
        ),
    ],
)
def test_conditions(granted: Granted, machine: MachineState, found: list[tuple[str, str, str]]) -> None:
    conditions = size_conditions(ASKED, granted, machine)
    assert [(entry["type"], entry["status"]) for entry in conditions] == [(kind, status) for kind, status, _ in found]
    for entry, (_, _, words) in zip(conditions, found, strict=True):
        assert words in entry["message"]
