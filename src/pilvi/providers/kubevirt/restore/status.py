"""What a VirtualMachineRestore says. Pure. Conditions and their words are KubeVirt's (pkg/storage/snapshot)."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["CLAIMS_AWAITED", "ERROR", "INITIALIZING", "TARGET_AWAITED", "Step", "complete_status", "failed_status", "step_status"]


@dataclass(frozen=True)
class Step:
    """Where a restore stands: the reasons of Progressing and Ready, whether it works, and what is awaited."""

    progressing: str
    ready: str
    message: str
    working: bool = True


INITIALIZING = ("Initializing VirtualMachineRestore", "Initializing VirtualMachineRestore")
CLAIMS_AWAITED = ("Creating new PVCs", "Waiting for new PVCs")
TARGET_AWAITED = ("Updating target spec", "Waiting for target update")
ERROR = ("In error state", "Not ready")


def step_status(restore: JsonObject, step: Step) -> JsonObject:
    """The status of a restore that goes on."""
    told = [condition("Progressing", step.working, step.progressing, step.message), condition("Ready", False, step.ready, step.message)]
    return {**(restore.get("status") or {}), "complete": False, "conditions": merge_conditions(conditions_of(restore), told)}


def failed_status(restore: JsonObject, message: str) -> JsonObject:
    """The status of a restore that has failed for good."""
    told = [condition(type, type == "Failure", "Operation failed", message) for type in ("Failure", "Progressing", "Ready")]
    return {**(restore.get("status") or {}), "complete": False, "conditions": merge_conditions(conditions_of(restore), told)}


def complete_status(restore: JsonObject) -> JsonObject:
    """The status of a restore that is done."""
    told = [condition("Progressing", False, "Operation complete"), condition("Ready", True, "Operation complete")]
    conditions = merge_conditions(conditions_of(restore), told)
    return {**(restore.get("status") or {}), "complete": True, "restoreTime": format_time(), "conditions": conditions}
