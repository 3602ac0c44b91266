"""The status of a VirtualMachine, computed from the machine and its instance. Pure.

Order and words of `printableStatus` and the conditions are KubeVirt's (pkg/virt-controller/watch/vm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.instancetype.matcher import kept_refs
from pilvi.providers.kubevirt.migration.state import is_under_way
from pilvi.providers.kubevirt.virtualmachine.disks import NO_DISKS, Disks
from pilvi.providers.kubevirt.virtualmachine.instance import GENERATION
from pilvi.providers.kubevirt.virtualmachine.startfailure import next_start_failure
from pilvi.providers.kubevirt.virtualmachine.strategy import FINAL_PHASES, get_strategy, remaining_requests, wants_to_run

__all__ = ["Failure", "plan_conditions", "plan_status", "printable_status"]

# Conditions of the instance that the machine shows as its own.
_MIRRORED = ("Paused", "LiveMigratable", "AgentConnected", "DataVolumesReady", "HotVCPUChange", "HotMemoryChange")


@dataclass(frozen=True)
class Failure:
    """Why the last step could not be done: KubeVirt's reason and a message with the next step."""

    reason: str
    message: str


def plan_status(
    vm: JsonObject,
    vmi: JsonObject | None,
    failure: Failure | None,
    now: datetime,
    *,
    disks: Disks = NO_DISKS,
    settled: bool = True,
    restart: Sequence[str] = (),
) -> JsonObject:
    """`status` of `vm` without its conditions. Without `settled` the strategy is not carried out yet and the old one stays named.
    `restart` as in `plan_conditions`.

    `disks` is KubeVirt's word for disks that are not whole, such as `Provisioning`.

    Raises UserError when the specification names no valid strategy.
    """
    old: dict[str, Any] = vm.get("status") or {}
    strategy = get_strategy(vm)
    generation = int(vm["metadata"].get("generation") or 1)
    status: JsonObject = {
        "created": vmi is not None,
        "ready": _condition_status(vmi, "Ready") == "True",
        "desiredGeneration": generation,
        "observedGeneration": _observed_generation(vm, vmi, restart),
        **kept_refs(vm),
    }
    carried_out = strategy if settled else old.get("runStrategy")
    if carried_out:
        status["runStrategy"] = carried_out
    requests = remaining_requests(vm, vmi)
    if requests:
        status["stateChangeRequests"] = requests
    start_failure = next_start_failure(strategy, old.get("startFailure"), vmi, now)
    if start_failure is not None:
        status["startFailure"] = start_failure
    status["printableStatus"] = printable_status({**vm, "status": {**old, **status, "startFailure": start_failure}}, vmi, failure, disks)
    return status


def plan_conditions(vm: JsonObject, vmi: JsonObject | None, failure: Failure | None, restart: Sequence[str] = ()) -> list[JsonObject]:
    """The conditions that hold now, as type, status, reason, message; types that are not in the list are to go away.

    `restart` says what of the template waits for a restart (`liveupdate`).
    """
    conditions = [_ready(vmi)]
    if failure is not None:
        conditions.append({"type": "Failure", "status": "True", "reason": failure.reason, "message": failure.message})
    for kind in _MIRRORED:
        condition = _condition(vmi, kind)
        if condition is not None:
            fields = ("type", "status", "reason", "message")
            conditions.append({name: condition[name] for name in fields if condition.get(name)})
    if restart:
        conditions.append(
            {
                "type": "RestartRequired",
                "status": "True",
                "reason": "SpecChanged",
                "message": f"{'; '.join(restart)}. Restart the machine to apply that",
            }
        )
    return conditions


def printable_status(vm: JsonObject, vmi: JsonObject | None, failure: Failure | None = None, disks: Disks = NO_DISKS) -> str:
    """The one word of `kubectl get vm`: the first line of the table that holds."""
    scene = _Scene(vm, vmi, failure, disks)
    return next((word for word, holds in _WORDS if holds(scene)), "Unknown")


class _Scene:
    """What the lines of the table ask about."""

    def __init__(self, vm: JsonObject, vmi: JsonObject | None, failure: Failure | None, disks: Disks) -> None:
        self.vm, self.vmi, self.failure, self.disks = vm, vmi, failure, disks
        self.phase: str = ((vmi or {}).get("status") or {}).get("phase") or ""
        self.deleting = bool(vm["metadata"].get("deletionTimestamp"))
        self.wanted = wants_to_run(vm, vmi)

    @property
    def stopping(self) -> bool:
        if self.vmi is None or self.phase in FINAL_PHASES:
            return False
        return bool(self.vmi["metadata"].get("deletionTimestamp")) or get_strategy(self.vm) == "Halted"

    @property
    def migrating(self) -> bool:
        return self.phase == "Running" and self.vmi is not None and is_under_way(self.vmi)

    @property
    def unschedulable(self) -> bool:
        condition = _condition(self.vmi, "PodScheduled")
        return condition is not None and condition.get("status") == "False" and condition.get("reason") == "Unschedulable"

    def unsynchronized(self, reason: str) -> bool:
        """Whether the instance says so as the reason why nothing comes of it."""
        condition = _condition(self.vmi, "Synchronized")
        return condition is not None and condition.get("status") == "False" and condition.get("reason") == reason

    @property
    def crash_looping(self) -> bool:
        if self.vmi is not None and self.phase not in FINAL_PHASES:
            return False
        return self.wanted and bool(((self.vm.get("status") or {}).get("startFailure") or {}).get("consecutiveFailCount"))

    @property
    def starting(self) -> bool:
        if self.vmi is None:
            return self.wanted
        return self.phase in ("", "Pending", "Scheduling", "Scheduled")

    @property
    def stopped(self) -> bool:
        return self.phase in FINAL_PHASES if self.vmi is not None else not self.wanted


_WORDS: tuple[tuple[str, Callable[[_Scene], bool]], ...] = (
    ("Terminating", lambda scene: scene.deleting),
    ("Stopping", lambda scene: scene.stopping),
    ("Migrating", lambda scene: scene.migrating),
    ("Paused", lambda scene: _condition_status(scene.vmi, "Paused") == "True"),
    ("Running", lambda scene: scene.phase == "Running"),
    ("ErrorPvcNotFound", lambda scene: scene.unsynchronized("FailedPvcNotFound")),
    ("DataVolumeError", lambda scene: scene.disks.failed),
    ("ErrorUnschedulable", lambda scene: scene.unschedulable),
    ("Provisioning", lambda scene: scene.disks.provisioning),
    ("WaitingForVolumeBinding", lambda scene: scene.wanted and scene.disks.unbound),
    ("ErrImagePull", lambda scene: scene.unsynchronized("ErrImagePull")),
    ("ImagePullBackOff", lambda scene: scene.unsynchronized("ImagePullBackOff")),
    ("CrashLoopBackOff", lambda scene: scene.crash_looping),
    ("Starting", lambda scene: scene.starting),
    ("Stopped", lambda scene: scene.stopped),
)


def _ready(vmi: JsonObject | None) -> JsonObject:
    if vmi is None:
        return {"type": "Ready", "status": "False", "reason": "VMINotExists", "message": "the machine has no instance"}
    condition = _condition(vmi, "Ready")
    if condition is None:
        return {"type": "Ready", "status": "False", "reason": "GuestNotRunning", "message": "the instance is new"}
    ready = {name: condition[name] for name in ("type", "status", "reason", "message") if condition.get(name)}
    return {"reason": "GuestRunning", "message": "", **ready}


def _observed_generation(vm: JsonObject, vmi: JsonObject | None, restart: Sequence[str]) -> int:
    """Generation of the specification that runs, or would be started next."""
    current = int(vm["metadata"].get("generation") or 1)
    if vmi is None or not restart:
        return current
    text = (vmi["metadata"].get("annotations") or {}).get(GENERATION) or ""
    return int(text) if text.isdigit() else current


def _condition(obj: JsonObject | None, kind: str) -> JsonObject | None:
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def _condition_status(obj: JsonObject | None, kind: str) -> str | None:
    condition = _condition(obj, kind)
    return None if condition is None else condition.get("status")
