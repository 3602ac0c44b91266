"""Start, stop and restart as changes of a VirtualMachine, by its run strategy. Pure.

Which strategy takes which request, and by what write, is KubeVirt's (pkg/virt-api/rest/lifecycle.go): strategies that keep a machine
running or halted are changed, the others get a request in `status.stateChangeRequests`, which the controller works off.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject
from pilvi.errors import BadRequest, Conflict
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.subresources.options import RestartOptions, StartOptions, StopOptions
from pilvi.providers.kubevirt.virtualmachine.strategy import FINAL_PHASES, get_strategy

__all__ = ["Change", "plan_restart", "plan_start", "plan_stop"]

# Upstream's shortest safe grace: the one second in which a guest that was told to power off is not cut off in the middle of a write.
SHORTEST_GRACE_S = 1


@dataclass(frozen=True)
class Change:
    """What is to be written: merge patches of the machine's `spec` and `status`, and how long its instance may take to power off."""

    spec: JsonObject | None = None
    status: JsonObject | None = None
    grace_s: int | None = None


def plan_start(vm: JsonObject, vmi: JsonObject | None, options: StartOptions) -> Change:
    """Start `vm`, whose instance is `vmi` (None: it has none). Raises Conflict, UserError for a machine without a valid strategy."""
    strategy, phase = get_strategy(vm), _phase(vmi)
    if vmi is not None and phase not in (*FINAL_PHASES, "", "Unknown"):
        raise _conflict(vm, "the machine is running already")
    start: JsonObject = {"action": "Start"}
    if options.paused:
        start["data"] = {"paused": "true"}
    match strategy:
        case "Halted" if not options.paused:
            return Change(spec=_run(vm, running=True))
        case "Halted":
            return _request(vm, start)
        case "RerunOnFailure" if phase == "Failed":
            raise _conflict(vm, "RerunOnFailure starts a machine that has failed by itself")
        case "RerunOnFailure" if vmi is not None and phase == "Succeeded":
            return _request(vm, _stop(vmi), start)
        case "Manual" if vmi is not None and phase in FINAL_PHASES:
            return _request(vm, _stop(vmi), start)
        case "RerunOnFailure" | "Manual":
            return _request(vm, start)
    raise _conflict(vm, f"{strategy} does not support manual start requests")


def plan_stop(vm: JsonObject, vmi: JsonObject | None, options: StopOptions) -> Change:
    """Stop `vm`. Raises BadRequest, Conflict, UserError."""
    strategy, grace_s = get_strategy(vm), options.grace_period
    if grace_s is not None and grace_s < 0:
        raise refusal(BadRequest, "gracePeriod must not be negative")
    running = vmi if _phase(vmi) not in FINAL_PHASES else None
    if strategy in ("Always", "Once"):
        return Change(spec=_run(vm, running=False), grace_s=grace_s if running is not None else None)
    if running is None:
        raise _conflict(vm, "the machine is not running")
    if strategy == "Halted":
        current_s = running["spec"].get("terminationGracePeriodSeconds")
        if grace_s is None or (current_s is not None and grace_s >= current_s):
            raise _conflict(
                vm, "the machine stops already; only a shorter grace period changes anything (virtctl stop --force --grace-period=0)"
            )
    change = _request(vm, _stop(running))
    return Change(status=change.status, grace_s=grace_s)


def plan_restart(vm: JsonObject, vmi: JsonObject | None, options: RestartOptions) -> Change:
    """Restart `vm`. Raises BadRequest, Conflict, UserError."""
    if options.grace_period_seconds:
        raise refusal(BadRequest, "a restart takes gracePeriodSeconds 0, which does not wait for the guest, or none")
    strategy = get_strategy(vm)
    if strategy in ("Halted", "Once"):
        raise _conflict(vm, f"{strategy} does not support manual restart requests")
    if vmi is None:
        raise _conflict(vm, "the machine is not running")
    change = _request(vm, _stop(vmi), {"action": "Start"})
    return Change(status=change.status, grace_s=SHORTEST_GRACE_S if options.grace_period_seconds == 0 else None)


def _run(vm: JsonObject, *, running: bool) -> JsonObject:
    if vm["spec"].get("runStrategy") is not None:
        return {"runStrategy": "Always" if running else "Halted"}
    return {"running": running}


def _request(vm: JsonObject, *requests: JsonObject) -> Change:
    """Ask for that. A stop takes the place of whatever was asked before; nothing else may come on top of it."""
    status = vm.get("status") or {}
    only_stop = len(requests) == 1 and requests[0]["action"] == "Stop"
    if status.get("stateChangeRequests") and not only_stop:
        raise _conflict(vm, "a start or a stop is under way already")
    patch: JsonObject = {"stateChangeRequests": list(requests)}
    if status.get("startFailure") is not None:
        patch["startFailure"] = None  # who asks does not want to wait for the next attempt
    return Change(status=patch)


def _stop(vmi: JsonObject) -> JsonObject:
    return {"action": "Stop", "uid": vmi["metadata"]["uid"]}


def _phase(vmi: JsonObject | None) -> str:
    return ((vmi or {}).get("status") or {}).get("phase") or ""


def _conflict(vm: JsonObject, why: str) -> Conflict:
    name = vm["metadata"]["name"]
    return refusal(
        Conflict, f'Operation cannot be fulfilled on virtualmachine.kubevirt.io "{name}": {why}', resource="virtualmachine", name=name
    )
