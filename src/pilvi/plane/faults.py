"""What keeps one object from being ready, read from its own status. Pure.

Conditions of all projects are read alike: most are good when True; those in `_TROUBLE` are bad when True; those in `_NEWS` tell what
goes on and are never the reason that something is not ready.
"""

from __future__ import annotations

import msgspec

from pilvi.api import JsonObject
from pilvi.runtime import conditions_of

__all__ = ["Fault", "find_fault", "is_healthy"]

_SUMMARIES = ("Available", "Ready")
_VAGUE = (*_SUMMARIES, "RemoteConnectionProbe")  # false while anything else is
_FIRST = "TopologyReconciled"  # without it nothing else of a Cluster can be, and the rest only says so
_TROUBLE = {"Paused", "Error", "ReplicaFailure", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"}
_NEWS = {
    "ControlPlaneMachinesUpToDate",
    "Deleting",
    "LiveMigratable",
    "MachinesUpToDate",
    "Remediating",
    "ReplicasLimited",
    "RollingOut",
    "ScalingDown",
    "ScalingUp",
    "UpToDate",
    "Updating",
    "WorkerMachinesUpToDate",
    "pilvi.dev/Fidelity",
}
# Their controllers write conditions at once, so an object without any has not been seen.
_WITH_CONTROLLER = {
    "Cluster",
    "KamajiControlPlane",
    "KubevirtCluster",
    "KubevirtMachine",
    "Machine",
    "MachineDeployment",
    "Subnet",
    "TenantControlPlane",
    "VirtualMachine",
    "VirtualMachineInstance",
    "Vpc",
}


class Fault(msgspec.Struct, frozen=True):
    """One condition that is not as it should be. `status` is `True` for conditions that are bad when they hold."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def summary(self) -> str:
        """Reason and message in one line, without repeating itself."""
        words = " ".join(self.message.split())
        if not words:
            return self.reason or f"{self.type} is {self.status}"
        return f"{self.reason}: {words}" if self.reason else words


def find_fault(obj: JsonObject) -> Fault | None:
    """The fault that says most: trouble before what is False, False before Unknown, details before summaries. None when all is well."""
    if obj["metadata"].get("deletionTimestamp"):
        return _deletion(obj)
    if is_healthy(obj):
        return None
    faults = _faults(obj)
    if faults:
        return min(faults, key=_rank)  # min keeps the first of equals: controllers list conditions in the order of events
    return _unseen(obj)


def is_healthy(obj: JsonObject) -> bool:
    """Whether the object is what its spec asks for. What its kind sums up in Available or Ready counts; else every condition does.

    A Node's Ready says nothing of what it runs short of.
    """
    if obj["metadata"].get("deletionTimestamp"):
        return False
    conditions = _conditions(obj)
    if obj.get("kind") == "Node":
        return not _faults(obj)
    summaries = [entry for entry in conditions if entry["type"] in _SUMMARIES]
    if summaries and all(entry["status"] == "True" for entry in summaries):
        return True
    return not _faults(obj) and _unseen(obj) is None


def _faults(obj: JsonObject) -> list[Fault]:
    faults = []
    for entry in _conditions(obj):
        kind, status = entry["type"], entry["status"]
        if kind in _NEWS or status == ("False" if kind in _TROUBLE else "True"):
            continue
        if kind in _TROUBLE and status == "Unknown":
            continue
        faults.append(Fault(kind, status, entry.get("reason") or "", entry.get("message") or ""))
    return faults


def _rank(fault: Fault) -> tuple[bool, bool, bool, bool]:
    return fault.type not in _TROUBLE, fault.type != _FIRST, fault.status == "Unknown", fault.type in _VAGUE


def _conditions(obj: JsonObject) -> list[JsonObject]:
    kind = obj.get("kind")
    if kind == "TenantControlPlane":  # Kamaji has no conditions of its own, it shows those of its Deployment
        resources = (obj.get("status") or {}).get("kubernetesResources") or {}
        return (resources.get("deployment") or {}).get("conditions") or []
    if kind == "Pod":  # that its containers are not ready yet is the machine's story
        return [entry for entry in conditions_of(obj) if entry["type"] == "PodScheduled"]
    if kind == "Service":
        return _address(obj)
    return conditions_of(obj)


def _address(service: JsonObject) -> list[JsonObject]:
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    if ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        return []
    return [{"type": "Address", "status": "False", "reason": "AddressPending", "message": "it has no cloud address yet"}]


def _unseen(obj: JsonObject) -> Fault | None:
    # Single conditions, such as that it is not paused, are noted before the whole is judged.
    if obj.get("kind") in _WITH_CONTROLLER and not any(entry["type"] in _SUMMARIES for entry in _conditions(obj)):
        return Fault("Observed", "Unknown", "NoStatus", "its controller has not looked at it yet; `pilvi status` tells whether it runs")
    return None


def _deletion(obj: JsonObject) -> Fault:
    """Cluster API and ours tell what a deletion waits for; of other kinds only the finalizers are known."""
    told = next((entry for entry in _conditions(obj) if entry["type"] == "Deleting" and entry.get("message")), None)
    told = told or next((entry for entry in _conditions(obj) if entry.get("reason") == "Deleting" and entry.get("message")), None)
    if told is not None:
        return Fault("Deleting", "True", told.get("reason") or "Deleting", told["message"])
    finalizers = ", ".join(obj["metadata"].get("finalizers") or [])
    return Fault("Deleting", "True", "Deleting", f"waiting for {finalizers}" if finalizers else "it is about to go")
