from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pilvi.errors import UserError
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.virtualmachine.startfailure import backoff_s, next_start_failure
from pilvi.providers.kubevirt.virtualmachine.strategy import (
    Keep,
    RunAlways,
    Start,
    Step,
    Stop,
    Wait,
    get_strategy,
    plan_step,
    remaining_requests,
)
from tests.unit.providers.kubevirt.objects import UID, make_vm, make_vmi

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STOP: dict[str, Any] = {"stateChangeRequests": [{"action": "Stop", "uid": UID}]}
START: dict[str, Any] = {"stateChangeRequests": [{"action": "Start"}]}
RESTART: dict[str, Any] = {"stateChangeRequests": [{"action": "Stop", "uid": UID}, {"action": "Start"}]}


@pytest.mark.parametrize(
    ("strategy", "status", "step"),
    [
        ("Always", {}, Start()),
        ("RerunOnFailure", {}, Start()),
        ("RerunOnFailure", {"runStrategy": "Manual"}, Start()),
        ("RerunOnFailure", {"runStrategy": "RerunOnFailure"}, Keep()),
        ("RerunOnFailure", {"runStrategy": "RerunOnFailure", **START}, Start()),
        ("Once", {}, Start()),
        ("Manual", {}, Keep()),
        ("Manual", START, Start()),
        ("Manual", RESTART, Start()),
        ("Halted", {}, Keep()),
        ("Halted", START, RunAlways()),
    ],
)
def test_without_an_instance(strategy: str, status: dict[str, Any], step: Step) -> None:
    assert plan_step(make_vm(strategy, **status), None, NOW) == step


@pytest.mark.parametrize(
    ("strategy", "phase", "status", "step"),
    [
        ("Always", "Running", {}, Keep()),
        ("Always", "Running", STOP, Stop()),
        ("Always", "Succeeded", {}, Stop()),
        ("Always", "Failed", {}, Stop()),
        ("RerunOnFailure", "Running", {}, Keep()),
        ("RerunOnFailure", "Succeeded", {}, Stop()),
        ("RerunOnFailure", "Failed", {}, Stop(again=True)),
        ("RerunOnFailure", "Running", STOP, Stop()),
        ("Once", "Running", {}, Keep()),
        ("Once", "Failed", {}, Keep()),
        ("Manual", "Failed", {}, Keep()),
        ("Manual", "Running", RESTART, Stop()),
        ("Manual", "Running", {"stateChangeRequests": [{"action": "Stop", "uid": "of another instance"}]}, Keep()),
        ("Halted", "Running", {}, Stop()),
    ],
)
def test_with_an_instance(strategy: str, phase: str, status: dict[str, Any], step: Step) -> None:
    assert plan_step(make_vm(strategy, **status), make_vmi(phase), NOW) == step


@pytest.mark.parametrize("strategy", ["Always", "Halted", "RerunOnFailure", "Manual", "Once"])
def test_an_instance_on_its_way_out_is_left_alone(strategy: str) -> None:
    assert plan_step(make_vm(strategy, **STOP), make_vmi("Running", deleting=True), NOW) == Keep()


@pytest.mark.parametrize("strategy", ["Always", "RerunOnFailure"])
def test_failing_starts_wait(strategy: str) -> None:
    retry_at = format_time(NOW + timedelta(seconds=12))
    vm = make_vm(strategy, startFailure={"consecutiveFailCount": 1, "retryAfterTimestamp": retry_at})
    assert plan_step(vm, None, NOW) == Wait(12.0)
    assert plan_step(vm, None, NOW + timedelta(seconds=13)) == Start()


def test_running_stands_for_a_strategy() -> None:
    vm = make_vm(None)
    assert get_strategy({**vm, "spec": {**vm["spec"], "running": True}}) == "Always"
    assert get_strategy({**vm, "spec": {**vm["spec"], "running": False}}) == "Halted"


@pytest.mark.parametrize(
    ("spec", "named"),
    [({}, "neither"), ({"running": True, "runStrategy": "Always"}, "both"), ({"runStrategy": "WaitAsReceiver"}, "WaitAsReceiver")],
)
def test_a_strategy_is_needed(spec: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        get_strategy({"metadata": {}, "spec": spec})


def test_requests_end_in_their_order() -> None:
    vm = make_vm("Manual", **RESTART)
    assert remaining_requests(vm, make_vmi("Running")) == RESTART["stateChangeRequests"]
    assert remaining_requests(vm, None) == START["stateChangeRequests"]
    started = make_vmi("Pending")
    started["metadata"]["uid"] = "the next one"
    assert remaining_requests(vm, started) == []


def test_start_failure_grows_once_for_each_instance() -> None:
    failed = make_vmi("Failed")
    first = next_start_failure("Always", None, failed, NOW)
    assert first is not None
    assert first["consecutiveFailCount"] == 1
    assert next_start_failure("Always", first, failed, NOW) == first
    failed["metadata"]["uid"] = "another"
    second = next_start_failure("Always", first, failed, NOW)
    assert second is not None
    assert second["consecutiveFailCount"] == 2
    assert next_start_failure("Always", second, None, NOW) == second


def test_start_failure_is_forgotten_when_one_runs() -> None:
    old = {"consecutiveFailCount": 3, "lastFailedVMIUID": "x"}
    assert next_start_failure("Always", old, make_vmi("Running"), NOW) is None
    ran = make_vmi("Failed", phaseTransitionTimestamps=[{"phase": "Running"}])
    assert next_start_failure("Always", old, ran, NOW) is None
    assert next_start_failure("Manual", old, make_vmi("Failed"), NOW) is None


def test_back_off_is_upstreams() -> None:
    assert [backoff_s(count, 0) for count in (1, 2, 3, 6)] == [10, 40, 90, 300]
    assert backoff_s(1, 0.5) == 15
