"""The status of a KubevirtMachine, from the machine and its instance. Pure. Reasons are CAPK's where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pilvi.api import JsonObject
from pilvi.providers.capk.contract import capk_condition, merge_capk_conditions
from pilvi.providers.capk.machine.virtualmachine import plan_addresses
from pilvi.providers.capk.names import TERMINAL
from pilvi.runtime import find_condition, is_true

__all__ = ["Progress", "find_address", "find_terminal", "plan_status"]

_FIRST_BOOT = "pilvi.dev/FirstBoot"
_SSH_NOTE = "checkStrategy ssh is accepted; the end of the bootstrap is seen from the machine itself"


@dataclass(frozen=True)
class Progress:
    """What one pass found. `waiting` is reason and message while something is awaited before there is a machine, or was refused."""

    waiting: tuple[str, str] | None = None
    vm: JsonObject | None = None
    vmi: JsonObject | None = None
    node_known: bool = False
    paused: bool = False
    deleting: bool = False

    @property
    def running(self) -> bool:
        """Whether the instance is ready and has an address."""
        return self.vmi is not None and is_true(self.vmi, "Ready") and find_address(self.vmi) is not None


def find_address(vmi: JsonObject) -> str | None:
    """The address of the first interface, or None."""
    interfaces = (vmi.get("status") or {}).get("interfaces") or []
    return interfaces[0].get("ipAddress") if interfaces else None


def find_terminal(vm: JsonObject, vmi: JsonObject | None) -> str | None:
    """Why the machine will not run again by itself, or None. As CAPK's IsTerminal (pkg/kubevirt/machine.go)."""
    for obj in (vm, vmi):
        reason = ((obj or {}).get("metadata", {}).get("labels") or {}).get(TERMINAL)
        if reason is not None:
            return f"label {TERMINAL} marks the machine as terminal: {reason}"
    if vmi is None:
        return None
    status = vmi.get("status") or {}
    phase = status.get("phase")
    if status.get("evacuationNodeName") and phase not in ("Succeeded", "Failed"):
        return "the machine's Pod is marked for eviction because its host is drained"
    if phase in ("Succeeded", "Failed") and (vm.get("spec") or {}).get("runStrategy") in ("Once", "RerunOnFailure"):
        return f"the instance has ended ({phase}) and the run strategy does not start another"
    return None


def plan_status(kubevirt_machine: JsonObject, progress: Progress, now: datetime) -> JsonObject:
    """`status` of the KubevirtMachine after one pass."""
    old = kubevirt_machine.get("status") or {}
    status = dict(old)
    if progress.paused:
        # As it was: nobody has looked.
        status["conditions"] = merge_capk_conditions(kubevirt_machine, [_paused(paused=True)], now)
        return status
    status["ready"] = progress.running and not progress.deleting
    if status["ready"] and progress.vmi is not None:
        status["initialization"] = {"provisioned": True}
        status["addresses"] = plan_addresses(kubevirt_machine["metadata"]["name"], find_address(progress.vmi) or "")
    if progress.node_known:
        status["nodeupdated"] = True
    terminal = find_terminal(progress.vm, progress.vmi) if progress.vm is not None else None
    if terminal is not None:
        status["failureReason"] = "UpdateError"
        status["failureMessage"] = terminal
    conditions = _conditions(kubevirt_machine, progress, terminal)
    status["conditions"] = merge_capk_conditions(kubevirt_machine, conditions, now)
    return status


def _conditions(kubevirt_machine: JsonObject, progress: Progress, terminal: str | None) -> list[JsonObject]:
    provisioned = _provisioned(progress)
    conditions = [provisioned, _paused(paused=False)]
    if progress.vm is not None:
        conditions.append(_bootstrapped(kubevirt_machine, progress))
    if progress.deleting:
        ready = capk_condition("Ready", False, "Deleting", "the virtual machine is being removed")
    elif terminal is not None:
        ready = capk_condition("Ready", False, "VMTerminal", terminal)
    else:
        ready = {**provisioned, "type": "Ready"}
    return [ready, *conditions]


def _paused(*, paused: bool) -> JsonObject:
    return capk_condition("Paused", paused, "Paused" if paused else "NotPaused", "the Cluster or this object is paused" if paused else "")


def _provisioned(progress: Progress) -> JsonObject:
    if progress.waiting is not None:
        return capk_condition("VMProvisioned", False, *progress.waiting)
    if progress.running:
        return capk_condition("VMProvisioned", True, "VMRunning")
    return capk_condition("VMProvisioned", False, "WaitingForVM", _why_not_running(progress))


def _why_not_running(progress: Progress) -> str:
    """The machine's own words: the instance's refusal, else its Ready condition, else the machine's status."""
    if progress.vmi is not None:
        for kind in ("Synchronized", "PodScheduled", "Ready"):
            found = find_condition(progress.vmi, kind)
            if found is not None and found.get("status") == "False" and found.get("message"):
                return f"the virtual machine does not run yet: {found['message']}"
    word = ((progress.vm or {}).get("status") or {}).get("printableStatus") or "new"
    return f"the virtual machine does not run yet: it is {word}"


def _bootstrapped(kubevirt_machine: JsonObject, progress: Progress) -> JsonObject:
    check = ((kubevirt_machine.get("spec") or {}).get("virtualMachineBootstrapCheck") or {}).get("checkStrategy")
    first_boot = find_condition(progress.vmi, _FIRST_BOOT) if progress.vmi is not None else None
    if progress.node_known or (first_boot is not None and first_boot["status"] == "True"):
        return capk_condition("BootstrapExecSucceeded", True, "Bootstrapped", _SSH_NOTE if check == "ssh" else "")
    if first_boot is not None and first_boot["status"] == "False":
        return capk_condition(
            "BootstrapExecSucceeded", False, "BootstrapFailed", first_boot.get("message") or "the bootstrap commands failed"
        )
    return capk_condition("BootstrapExecSucceeded", False, "Bootstrapping", "the machine has not joined the cluster yet")
