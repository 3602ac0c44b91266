"""What a VirtualMachine's run strategy asks for next: start, stop or nothing. Pure.

Behaviour is that of KubeVirt (pkg/virt-controller/watch/vm). One table, one line for each strategy; a step is one write, after
which the controller looks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.lib.clock import parse_time

__all__ = [
    "FINAL_PHASES",
    "STRATEGIES",
    "Keep",
    "RunAlways",
    "Start",
    "Step",
    "Stop",
    "Wait",
    "get_strategy",
    "plan_step",
    "remaining_requests",
    "wants_to_run",
]

STRATEGIES = ("Always", "RerunOnFailure", "Once", "Manual", "Halted")
FINAL_PHASES = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Keep:
    """All is as asked."""


@dataclass(frozen=True)
class Start:
    """Create the VirtualMachineInstance."""


@dataclass(frozen=True)
class Stop:
    """Delete the VirtualMachineInstance; with `again`, leave a request to start the next one."""

    again: bool = False


@dataclass(frozen=True)
class RunAlways:
    """A start request for a halted machine: turn the strategy to Always."""


@dataclass(frozen=True)
class Wait:
    """Starts keep failing: look again after `seconds`."""

    seconds: float


Step: TypeAlias = Keep | Start | Stop | RunAlways | Wait


def get_strategy(vm: JsonObject) -> str:
    """The run strategy, also from the deprecated `running`. Raises UserError when both or none are given or the name is unknown."""
    spec = vm.get("spec") or {}
    strategy, running = spec.get("runStrategy"), spec.get("running")
    if strategy is not None and running is not None:
        raise UserError("spec.running and spec.runStrategy are both set", hint="remove spec.running, which is deprecated")
    if strategy is None and running is None:
        raise UserError("neither spec.runStrategy nor spec.running is set", hint="set spec.runStrategy, for example to Always")
    if strategy is None:
        return "Always" if running else "Halted"
    if strategy not in STRATEGIES:
        raise UserError(f"spec.runStrategy {strategy} is not supported", hint=f"use one of {', '.join(STRATEGIES)}")
    return str(strategy)


def plan_step(vm: JsonObject, vmi: JsonObject | None, now: datetime) -> Step:
    """The next step for `vm`, whose instance is `vmi` (None when there is none). Raises UserError as `get_strategy` does."""
    strategy = get_strategy(vm)
    if vmi is not None:
        return _plan_existing(strategy, vm, vmi)
    return _plan_absent(strategy, vm, now)


def _plan_existing(strategy: str, vm: JsonObject, vmi: JsonObject) -> Step:
    if vmi["metadata"].get("deletionTimestamp"):
        return Keep()
    phase = (vmi.get("status") or {}).get("phase")
    asked_to_stop = _has_stop_request(vm, vmi)
    match strategy:
        case "Halted":
            return Stop()
        case "Always" if asked_to_stop or phase in FINAL_PHASES:
            return Stop()
        case "RerunOnFailure" if asked_to_stop or phase in FINAL_PHASES:
            return Stop(again=phase == "Failed")
        case "Manual" if asked_to_stop:
            return Stop()
    return Keep()


def _plan_absent(strategy: str, vm: JsonObject, now: datetime) -> Step:
    status = vm.get("status") or {}
    asked_to_start = _has_start_request(vm)
    match strategy:
        case "Halted":
            return RunAlways() if asked_to_start else Keep()
        case "Manual" if not asked_to_start:
            return Keep()
        # A strategy that was just chosen starts the machine once; later only a failure or a request does.
        case "RerunOnFailure" if not asked_to_start and status.get("runStrategy") == strategy:
            return Keep()
    if strategy in ("Always", "RerunOnFailure"):
        left_s = _backoff_left_s(status, now)
        if left_s > 0:
            return Wait(left_s)
    return Start()


def wants_to_run(vm: JsonObject, vmi: JsonObject | None) -> bool:
    """Whether the strategy wants a running instance now, which is what separates Starting from Stopped."""
    match get_strategy(vm):
        case "Always":
            return True
        case "Manual":
            return _has_start_request(vm) if vmi is None else not _has_stop_request(vm, vmi)
        case "RerunOnFailure":
            if vmi is not None:
                return bool((vmi.get("status") or {}).get("phase") != "Succeeded")
            return _has_start_request(vm) or (vm.get("status") or {}).get("runStrategy") != "RerunOnFailure"
        case "Once":
            return vmi is None or (vmi.get("status") or {}).get("phase") not in FINAL_PHASES
        case _:
            return False


def remaining_requests(vm: JsonObject, vmi: JsonObject | None) -> list[JsonObject]:
    """The state change requests that are still to be done.

    A stop request is done when the instance that it names is gone; a start request when an instance is there and no stop
    request stands before it.
    """
    requests: list[JsonObject] = list((vm.get("status") or {}).get("stateChangeRequests") or [])
    while requests:
        first = requests[0]
        if first.get("action") == "Stop":
            done = vmi is None or vmi["metadata"].get("uid") != first.get("uid")
        else:
            done = vmi is not None and not vmi["metadata"].get("deletionTimestamp")
        if not done:
            break
        requests.pop(0)
    return requests


def _has_stop_request(vm: JsonObject, vmi: JsonObject) -> bool:
    first = _first_request(vm)
    return first is not None and first.get("action") == "Stop" and first.get("uid") == vmi["metadata"].get("uid")


def _has_start_request(vm: JsonObject) -> bool:
    # Without an instance a stop that stands first is already done.
    requests = remaining_requests(vm, None)
    return bool(requests) and requests[0].get("action") == "Start"


def _first_request(vm: JsonObject) -> JsonObject | None:
    requests = (vm.get("status") or {}).get("stateChangeRequests") or []
    return requests[0] if requests else None


def _backoff_left_s(status: JsonObject, now: datetime) -> float:
    retry_at = (status.get("startFailure") or {}).get("retryAfterTimestamp")
    return max(0.0, (parse_time(retry_at) - now).total_seconds()) if retry_at else 0.0
