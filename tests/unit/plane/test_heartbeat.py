"""The engine's silence, measured by what others have renewed meanwhile."""

from datetime import timedelta

from pilvi.api import JsonObject
from pilvi.lib.clock import format_micro_time, parse_time, utc_now
from pilvi.plane.heartbeat import LONGEST_SILENCE_S, find_silence
from tests.unit.plane.objects import obj

START = parse_time("2026-01-01T00:00:00Z")
HOST = obj("Node", "vm", namespace="", metadata={"labels": {"pilvi.dev/cloud": "abcde"}})
FOREIGN = obj("Node", "neighbour", namespace="")


def lease(name: str, seconds: float, namespace: str = "kube-node-lease") -> JsonObject:
    return obj("Lease", name, namespace=namespace, spec={"renewTime": format_micro_time(START + timedelta(seconds=seconds))})


def test_nobody_is_called_dead_for_a_restart() -> None:
    server = lease("apiserver", LONGEST_SILENCE_S, "kube-system")
    assert find_silence([HOST], [lease("vm", 0), server]) == ""
    assert "silent for 26 s" in find_silence([HOST], [lease("vm", -1), server])


def test_other_nodes_are_not_the_engine() -> None:
    leases = [lease("vm", 0), lease("neighbour", 100), lease("apiserver", 100, "kube-system")]
    assert "silent for 100 s" in find_silence([HOST, FOREIGN], leases)
    assert find_silence([FOREIGN], leases) == ""


def test_a_platform_without_a_host_says_nothing() -> None:
    assert find_silence([], [lease("apiserver", 0, "kube-system")]) == ""
    assert find_silence([HOST], [obj("Lease", "vm", namespace="kube-node-lease")]) == ""


def test_without_others_the_clock_counts() -> None:
    fresh = obj("Lease", "vm", namespace="kube-node-lease", spec={"renewTime": format_micro_time(utc_now())})
    assert find_silence([HOST], [fresh]) == ""
    assert find_silence([HOST], [lease("vm", 0)])
