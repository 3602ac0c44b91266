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
from pilvi.providers.kubevirt.instance.guest.agent import AGENT_CONDITIONS, plan_agent_conditions
from pilvi.providers.kubevirt.instance.guest.interfaces import merge_interfaces
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.kubevirt.migration.obstacle import Obstacle
from pilvi.providers.kubevirt.migration.state import is_under_way
from pilvi.providers.sizing import Size, find_size
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
    *AGENT_CONDITIONS,
    "AccessCredentialsSynchronized",
    "DataVolumesReady",
    "SoftwareEmulation",
    "HotVCPUChange",
    "HotMemoryChange",
    "EvictionRequested",
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
    host runs short of, `obstacle` why the machine cannot move to another one. `unready` says why a guest that runs is not ready all the
    same. `conditions` are those that others have planned. `volumes` is `status.volumeStatus`, None to leave it as it is. `size` is what the
    machine may have, None when that is what its specification asks for, and `size_conditions` say what of that is under way.
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
    unready: str = ""
    conditions: tuple[JsonObject, ...] = ()
    volumes: list[JsonObject] | None = None
    size: Size | None = None
    size_conditions: list[JsonObject] = field(default_factory=list)
    obstacle: Obstacle | None = None

    @property
    def ready(self) -> bool:
        """Whether the guest runs, and is ready to its probe."""
        return self.phase == "Running" and self.machine.phase == "running" and not self.stopping and not self.unready


def phase_of(vmi: JsonObject) -> str:
    """The stored phase; empty for a new instance."""
    return (vmi.get("status") or {}).get("phase") or ""


def plan_status(vmi: JsonObject, report: Report, now: datetime, *more: JsonObject | None) -> JsonObject:
    """`status` of `vmi` after this pass. `more` are conditions that others have planned, None for one that goes away.

    Fields of others are kept; none of the arguments is changed.
    """
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
    _put_guest(status, report)
    if report.machine.machine_type:
        status["machine"] = {"type": report.machine.machine_type}
    size = report.size or find_size(vmi["spec"])
    # Once the machine has a size, only a pass that knows what it may have changes that.
    if size is not None and report.phase in ("Scheduled", "Running") and (report.size is not None or "memory" not in status):
        machine, memory = report.machine, size.memory_bytes
        sizes = {
            "guestAtBoot": machine.memory_at_start_bytes or memory,
            "guestCurrent": machine.memory_bytes or memory,
            "guestRequested": memory,
        }
        status["memory"] = {name: format_bytes(size_bytes) for name, size_bytes in sizes.items()}
        status["currentCPUTopology"] = {"sockets": size.sockets, "cores": size.cores, "threads": size.threads}
    if report.volumes is not None:
        status["volumeStatus"] = report.volumes
    if leaves := status.get("evacuationNodeName"):
        message = f"an eviction asks the machine to leave host {leaves}"
        more = (*more, condition("EvictionRequested", True, "EvictionRequested", message))
    wanted = [*_conditions(vmi["spec"], report), *report.conditions, *(entry for entry in more if entry is not None)]
    others = [entry for entry in status.get("conditions") or [] if entry["type"] not in _OWNED]
    kept = {new["type"] for new in wanted} | (_OF_FIDELITY if report.fidelity is None else set())
    if report.phase == "Running" and report.machine.agent is None:
        kept.update(AGENT_CONDITIONS)  # an engine that has just started has not heard of the guest yet
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


def _put_guest(status: JsonObject, report: Report) -> None:
    """What the guest tells, forgotten when its agent goes. One that answers but has told nothing yet will tell the same as before."""
    machine = report.machine
    told = machine.guest
    if machine.agent and (told is None or told.links is None) and status.get("interfaces"):
        pass
    elif report.interfaces is not None:
        status["interfaces"] = merge_interfaces(report.interfaces, (told.links if told is not None else None) or ())
    if machine.guest_os:
        status["guestOSInfo"] = machine.guest_os
    elif machine.agent is False:
        status.pop("guestOSInfo", None)
    if told is not None and told.is_frozen:
        status["fsFreezeStatus"] = "frozen"
    elif told is not None or machine.agent is False:
        status.pop("fsFreezeStatus", None)


def _conditions(vmi_spec: JsonObject, report: Report) -> list[JsonObject]:
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
    conditions += report.size_conditions
    machine = report.machine
    if report.phase == "Running" and machine.phase == "paused":
        conditions.append(condition("Paused", True, machine.reason or "PausedByUser", machine.message))
    conditions += plan_agent_conditions(vmi_spec, answers=report.phase == "Running" and bool(machine.agent), facts=machine.guest)
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
    """The scheduler's refusal, which KubeVirt shows on the instance for as long as it lasts; it knows a pressure only as a taint.

    KubeVirt makes no Pod before its claims are there, so what the scheduler says of claims is said in other words (`PVCNotBound`).
    """
    for entry in ((pod or {}).get("status") or {}).get("conditions") or []:
        if entry.get("type") == "PodScheduled" and entry.get("status") == "False":
            if "persistentvolumeclaim" in (entry.get("message") or "").lower():
                return None
            message = "; ".join(part for part in (pressure, entry.get("message")) if part)
            return condition("PodScheduled", False, entry.get("reason") or "Unschedulable", message)
    return None
