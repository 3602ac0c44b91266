"""Start, stop and restart by run strategy: which write each takes, and which requests each refuses."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.errors import ApiError, BadRequest, Conflict, UserError
from pilvi.providers.kubevirt.subresources.lifecycle import Change, plan_restart, plan_start, plan_stop
from pilvi.providers.kubevirt.subresources.options import RestartOptions, StartOptions, StopOptions
from tests.unit.providers.kubevirt.objects import UID, make_vm, make_vmi

START: JsonObject = {"action": "Start"}
STOP: JsonObject = {"action": "Stop", "uid": UID}


def requests(*wanted: JsonObject) -> Change:
    return Change(status={"stateChangeRequests": list(wanted)})


@pytest.mark.parametrize(
    ("strategy", "phase", "wanted"),
    [
        ("Halted", None, Change(spec={"runStrategy": "Always"})),
        ("Halted", "Failed", Change(spec={"runStrategy": "Always"})),
        ("Manual", None, requests(START)),
        ("Manual", "Succeeded", requests(STOP, START)),
        ("Manual", "Failed", requests(STOP, START)),
        ("RerunOnFailure", None, requests(START)),
        ("RerunOnFailure", "Succeeded", requests(STOP, START)),
        ("RerunOnFailure", "Failed", "RerunOnFailure starts a machine that has failed by itself"),
        ("Always", None, "Always does not support manual start requests"),
        ("Once", None, "Once does not support manual start requests"),
        ("Manual", "Running", "running already"),
        ("Manual", "Scheduling", "running already"),
        ("Halted", "Running", "running already"),
    ],
)
def test_start(strategy: str, phase: str | None, wanted: Change | str) -> None:
    vmi = None if phase is None else make_vmi(phase)
    check(lambda: plan_start(make_vm(strategy), vmi, StartOptions()), wanted)


def test_start_paused_asks_the_controller_also_when_halted() -> None:
    paused = {"action": "Start", "data": {"paused": "true"}}
    for strategy in ("Halted", "Manual", "RerunOnFailure"):
        assert plan_start(make_vm(strategy), None, StartOptions(paused=True)) == requests(paused)


@pytest.mark.parametrize(
    ("strategy", "phase", "grace_s", "wanted"),
    [
        ("Always", "Running", None, Change(spec={"runStrategy": "Halted"})),
        ("Always", "Running", 0, Change(spec={"runStrategy": "Halted"}, grace_s=0)),
        ("Always", None, 0, Change(spec={"runStrategy": "Halted"})),
        ("Once", "Failed", 3, Change(spec={"runStrategy": "Halted"})),
        ("Manual", "Running", None, requests(STOP)),
        ("RerunOnFailure", "Running", 5, Change(status={"stateChangeRequests": [STOP]}, grace_s=5)),
        ("Manual", None, None, "not running"),
        ("Manual", "Succeeded", None, "not running"),
        ("Halted", None, 0, "not running"),
        ("Halted", "Running", None, "only a shorter grace period"),
        ("Halted", "Running", 30, "only a shorter grace period"),
        ("Halted", "Running", 29, Change(status={"stateChangeRequests": [STOP]}, grace_s=29)),
    ],
)
def test_stop(strategy: str, phase: str | None, grace_s: int | None, wanted: Change | str) -> None:
    vmi = None if phase is None else make_vmi(phase)
    if vmi is not None:
        vmi["spec"]["terminationGracePeriodSeconds"] = 30
    check(lambda: plan_stop(make_vm(strategy), vmi, StopOptions(grace_period=grace_s)), wanted)


@pytest.mark.parametrize(
    ("strategy", "phase", "grace_s", "wanted"),
    [
        ("Always", "Running", None, requests(STOP, START)),
        ("Manual", "Running", 0, Change(status={"stateChangeRequests": [STOP, START]}, grace_s=1)),
        ("RerunOnFailure", "Running", None, requests(STOP, START)),
        ("Always", None, None, "not running"),
        ("Halted", "Running", None, "Halted does not support manual restart requests"),
        ("Once", "Running", None, "Once does not support manual restart requests"),
    ],
)
def test_restart(strategy: str, phase: str | None, grace_s: int | None, wanted: Change | str) -> None:
    vmi = None if phase is None else make_vmi(phase)
    check(lambda: plan_restart(make_vm(strategy), vmi, RestartOptions(grace_period_seconds=grace_s)), wanted)


@pytest.mark.parametrize("grace_s", [-1, 5])
def test_grace_periods_that_are_none(grace_s: int) -> None:
    with pytest.raises(BadRequest):
        plan_restart(make_vm(), make_vmi("Running"), RestartOptions(grace_period_seconds=grace_s))
    with pytest.raises(BadRequest):
        plan_stop(make_vm(), make_vmi("Running"), StopOptions(grace_period=-1))


def test_the_deprecated_field_is_changed_where_it_is_used() -> None:
    vm = make_vm(None)
    vm["spec"]["running"] = False
    assert plan_start(vm, None, StartOptions()).spec == {"running": True}
    vm["spec"]["running"] = True
    assert plan_stop(vm, make_vmi("Running"), StopOptions()).spec == {"running": False}
    vm["spec"]["runStrategy"] = "Always"
    with pytest.raises(UserError):
        plan_stop(vm, make_vmi("Running"), StopOptions())


def test_a_stop_takes_the_place_of_everything_and_nothing_else_does() -> None:
    busy = make_vm("Manual", stateChangeRequests=[STOP, START])
    assert plan_stop(busy, make_vmi("Running"), StopOptions()) == requests(STOP)
    for plan in (
        lambda: plan_start(busy, None, StartOptions()),
        lambda: plan_restart(busy, make_vmi("Running"), RestartOptions()),
    ):
        with pytest.raises(Conflict, match="under way already"):
            plan()


def test_who_asks_does_not_wait_for_the_next_attempt() -> None:
    vm = make_vm("RerunOnFailure", startFailure={"consecutiveFailCount": 3})
    assert plan_start(vm, None, StartOptions()).status == {"stateChangeRequests": [START], "startFailure": None}


def check(plan: Any, wanted: Change | str) -> None:
    if isinstance(wanted, Change):
        assert plan() == wanted
        return
    with pytest.raises(ApiError) as raised:
        plan()
    assert raised.value.code == 409
    assert wanted in str(raised.value)
    assert str(raised.value).startswith('Operation cannot be fulfilled on virtualmachine.kubevirt.io "web": ')
