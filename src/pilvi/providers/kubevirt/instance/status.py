"""The status of a VirtualMachineInstance, computed from all that was seen in one pass. Pure.

Two conditions are ours. `pilvi.dev/Fidelity` is the one place that says how real a machine is: its reason is `Kvm`, `Tcg` or
`Sandbox`. `pilvi.dev/FirstBoot` says how far the guest is with its user data: Unknown while it works, then True or False.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime

from pilvi.api.resource import JsonObject
from pilvi.lib.clock import format_time
from pilvi.lib.quantity import format_bytes
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.kubevirt.migration.obstacle import Obstacle
from pilvi.providers.kubevirt.migration.state import is_under_way
from pilvi.providers.sizing import find_size
from pilvi.runtime.conditions import condition, merge_conditions

__all__ = ["FIDELITY", "FINAL_PHASES", "FIRST_BOOT", "Report", "phase_of", "plan_status"]

FIDELITY = "pilvi.dev/Fidelity"
FIRST_BOOT = "pilvi.dev/FirstBoot"
FINAL_PHASES = ("Succeeded", "Failed")
# Conditions that these controllers own; any other on the object is somebody else's and stays.
_OWNED = {
    "Ready",
    "Paused",
    "PodScheduled",
    "Synchronized",
    "LiveMigratable",
    "AgentConnected",
    "SoftwareEmulation",
    FIDELITY,
    FIRST_BOOT,
}
# They stay while nobody knows better: an engine that has just started has not asked its host yet.
_OF_FIDELITY = {FIDELITY, "SoftwareEmulation", "LiveMigratable"}


@dataclass(frozen=True)
class Report:
    """What one pass found out.

    `ready_reason` and `ready_message` say why the machine is not ready; both are unused for a running machine. `refusal` is a
    reason and message of KubeVirt's Synchronized condition. `fidelity` is the backend's, as reason and message. `pressure` says what the
    host runs short of, `obstacle` why the machine cannot move to another one.
    """

    phase: str
    ready_reason: str = "GuestNotRunning"
    ready_message: str = ""
    machine: MachineState = field(default_factory=lambda: MachineState("absent"))
    pod: JsonObject | None = None
    interfaces: list[JsonObject] | None = None
    stopping: bool = False
    refusal: tuple[str, str] | None = None
    fidelity: tuple[str, str] | None = None
    pressure: str = ""
    obstacle: Obstacle | None = None

    @property
    def ready(self) -> bool:
        """Whether the guest runs."""
        return self.phase == "Running" and self.machine.phase == "running" and not self.stopping


def phase_of(vmi: JsonObject) -> str:
    """The stored phase; empty for a new instance."""
    return (vmi.get("status") or {}).get("phase") or ""


def plan_status(vmi: JsonObject, report: Report, now: datetime) -> JsonObject:
    """`status` of `vmi` after this pass. Fields of others are kept; none of the arguments is changed."""
    status = copy.deepcopy(vmi.get("status") or {})
    if status.get("phase") != report.phase:
        status["phase"] = report.phase
        moment = {"phase": report.phase, "phaseTransitionTimestamp": format_time(now)}
        status["phaseTransitionTimestamps"] = [*(status.get("phaseTransitionTimestamps") or []), moment]
    _put_pod(status, report)
    if report.fidelity is not None:
        status.pop("migrationMethod", None)
        if report.obstacle is None:
            status["migrationMethod"] = "LiveMigration"
    if report.interfaces is not None:
        status["interfaces"] = report.interfaces
    if report.machine.guest_os:
        status["guestOSInfo"] = report.machine.guest_os
    if report.machine.machine_type:
        status["machine"] = {"type": report.machine.machine_type}
    size = find_size(vmi["spec"])
    if size is not None and report.phase in ("Scheduled", "Running"):
        memory = format_bytes(size.memory_bytes)
        status["memory"] = {"guestAtBoot": memory, "guestCurrent": memory, "guestRequested": memory}
        status["currentCPUTopology"] = {"sockets": size.sockets, "cores": size.cores, "threads": size.threads}
        status["volumeStatus"] = [{"name": volume["name"], "target": ""} for volume in vmi["spec"].get("volumes") or []]
    wanted = _conditions(report)
    others = [entry for entry in status.get("conditions") or [] if entry["type"] not in _OWNED]
    kept = {new["type"] for new in wanted} | (_OF_FIDELITY if report.fidelity is None else set())
    ours = [entry for entry in status.get("conditions") or [] if entry["type"] in kept]
    status["conditions"] = merge_conditions([*others, *ours], wanted, now=now)
    return status


def _put_pod(status: JsonObject, report: Report) -> None:
    pod = report.pod
    if pod is None:
        status.pop("activePods", None)
        return
    node = pod["spec"].get("nodeName") or ""
    # While the machine moves its target has a Pod too.
    others = status.get("activePods") if is_under_way({"status": status}) else None
    status["activePods"] = {**(others or {}), pod["metadata"]["uid"]: node}
    if node:
        status["nodeName"] = node
    qos = (pod.get("status") or {}).get("qosClass")
    if qos:
        status["qosClass"] = qos


def _conditions(report: Report) -> list[JsonObject]:
    if report.ready:
        conditions = [condition("Ready", True, "GuestRunning", "; ".join(report.machine.notes))]
    else:
        conditions = [condition("Ready", False, report.ready_reason, report.ready_message)]
    scheduled = _find_unscheduled(report.pod, report.pressure)
    if scheduled is not None:
        conditions.append(scheduled)
    if report.refusal is not None:
        conditions.append(condition("Synchronized", False, *report.refusal))
    if report.fidelity is not None:
        reason, message = report.fidelity
        conditions.append(condition(FIDELITY, True, reason, message))
        if reason == "Tcg":
            conditions.append(condition("SoftwareEmulation", True, "SoftwareEmulation", message))
        conditions.append(condition("LiveMigratable", report.obstacle is None, *(report.obstacle or ("Migratable", ""))))
    machine = report.machine
    if report.phase == "Running" and machine.phase == "paused":
        conditions.append(condition("Paused", True, machine.reason or "PausedByUser", machine.message))
    if report.phase == "Running" and machine.agent:
        conditions.append(condition("AgentConnected", True, "GuestAgentConnected"))
    if report.phase == "Running" and machine.phase != "absent" and machine.first_boot != "unknown":
        conditions.append(_first_boot(machine.first_boot))
    return conditions


def _first_boot(exit_code: int | None) -> JsonObject:
    if exit_code is None:
        return condition(FIRST_BOOT, "Unknown", "InProgress", "the guest works on its user data")
    if exit_code == 0:
        return condition(FIRST_BOOT, True, "Completed")
    message = f"the commands of the user data ended with exit code {exit_code}; see `pilvi logs NAMESPACE/MACHINE --of first-boot`"
    return condition(FIRST_BOOT, False, "Failed", message)


def _find_unscheduled(pod: JsonObject | None, pressure: str) -> JsonObject | None:
    """The scheduler's refusal, which KubeVirt shows on the instance for as long as it lasts; it knows a pressure only as a taint."""
    for entry in ((pod or {}).get("status") or {}).get("conditions") or []:
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False":
            message = "; ".join(part for part in (pressure, entry.get("message")) if part)
            return condition("PodScheduled", False, entry.get("reason") or "Unschedulable", message)
    return None
