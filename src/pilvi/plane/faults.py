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
_TROUBLE = {
    "ControllerResizeError",
    "DiskPressure",
    "DisruptionTarget",
    "Error",
    "MemoryPressure",
    "NetworkUnavailable",
    "PIDPressure",
    "Paused",
    "PodResizePending",
    "ReplicaFailure",
}
_NEWS = {
    "ControlPlaneMachinesUpToDate",
    "Deleting",
    "LiveMigratable",
    "MachinesUpToDate",
    "PodResizeInProgress",
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
# By kind, what its controller judges; an object without any of these has not been seen. Single conditions, such as that it is not
# paused, are noted before the whole is judged.
_VERDICTS: dict[str, tuple[str, ...]] = {
    "Cluster": _SUMMARIES,
    "ClusterClass": ("VariablesReady", "RefVersionsUpToDate"),
    "ClusterResourceSet": ("ResourcesApplied",),
    "DataStore": _SUMMARIES,
    "IP": ("Allocated",),
    "KamajiControlPlane": _SUMMARIES,
    "KubeadmConfig": _SUMMARIES,
    "KubevirtCluster": _SUMMARIES,
    "KubevirtMachine": _SUMMARIES,
    "Machine": _SUMMARIES,
    "MachineDeployment": _SUMMARIES,
    "MachineHealthCheck": ("RemediationAllowed",),
    "MachineSet": ("MachinesReady", "MachinesUpToDate", "ScalingUp", "ScalingDown"),
    "Node": _SUMMARIES,
    "Pod": ("PodScheduled", "Initialized", *_SUMMARIES),
    "Subnet": _SUMMARIES,
    "TenantControlPlane": _SUMMARIES,
    "VirtualMachine": _SUMMARIES,
    "VirtualMachineInstance": _SUMMARIES,
    "Vpc": _SUMMARIES,
}
# Of a Namespace that ends: what is left in it. Each is bad when True.
_REMAINS = (
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
    "NamespaceDeletionContentFailure",
    "NamespaceDeletionDiscoveryFailure",
)


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
    summaries = [] if obj["kind"] == "Node" else [entry for entry in _conditions(obj) if entry["type"] in _SUMMARIES]
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
    if kind == "Pod":
        return _pod(obj)
    if kind == "IP":  # Kube-OVN has no conditions for it: the address is all
        address = (obj.get("spec") or {}).get("v4IpAddress")
        return [{"type": "Allocated", "status": "True"}] if address else []
    if kind == "Service":
        return _service(obj)
    if kind == "PersistentVolumeClaim":
        return _claim(obj)
    return conditions_of(obj)


def _pod(pod: JsonObject) -> list[JsonObject]:
    """The Pod's conditions, and before them what its status and its containers say beside them."""
    status = pod.get("status") or {}
    conditions = conditions_of(pod)
    owners = pod["metadata"].get("ownerReferences") or []
    if any(owner.get("kind") == "VirtualMachineInstance" for owner in owners) or status.get("phase") == "Succeeded":
        # That a machine's containers are not ready is the machine's story, and who has ended well is ready for nothing more.
        return [entry for entry in conditions if entry["type"] == "PodScheduled"]
    told = []
    if status.get("phase") == "Failed":
        told.append(_bad("Phase", status.get("reason") or "Failed", status.get("message") or ""))
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        # These two are what the Pod's own conditions say as well.
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            told.append(
                _bad("ContainerWaiting", waiting["reason"], f"container {container['name']}: {waiting.get('message') or 'it waits'}")
            )
    return [*told, *conditions]


def _service(service: JsonObject) -> list[JsonObject]:
    """The conditions of a Service that asks for a cloud address: whether it got one, and whether it leads anywhere."""
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    conditions = conditions_of(service)
    if ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or any(entry["status"] == "False" for entry in conditions):
        return conditions
    return [*conditions, _bad("Address", "AddressPending", "it has no cloud address yet")]


def _claim(claim: JsonObject) -> list[JsonObject]:
    """The claim's conditions, and that it is not bound when none says why; what fills it tells in an annotation how that goes."""
    conditions, phase = conditions_of(claim), (claim.get("status") or {}).get("phase") or "Pending"
    if phase == "Bound" or any(entry["status"] == "False" for entry in conditions):
        return conditions
    told = (claim["metadata"].get("annotations") or {}).get("cdi.kubevirt.io/storage.condition.running.message")
    return [*conditions, _bad("Bound", phase, told or "it has no volume; its class may wait for a first consumer")]


def _bad(type: str, reason: str, message: str) -> JsonObject:
    return {"type": type, "status": "False", "reason": reason, "message": message}


def _unseen(obj: JsonObject) -> Fault | None:
    verdicts = _VERDICTS.get(obj["kind"])
    if verdicts and not any(entry["type"] in verdicts for entry in _conditions(obj)):
        return Fault("Observed", "Unknown", "NoStatus", "its controller has not looked at it yet; `pilvi status` tells whether it runs")
    return None


def _deletion(obj: JsonObject) -> Fault:
    """Cluster API and ours tell what a deletion waits for; of other kinds only the finalizers are known."""
    told = next((entry for entry in _conditions(obj) if entry["type"] == "Deleting" and entry.get("message")), None)
    told = told or next((entry for entry in _conditions(obj) if entry.get("reason") == "Deleting" and entry.get("message")), None)
    told = told or next((entry for entry in _conditions(obj) if entry["type"] in _REMAINS and entry["status"] == "True"), None)
    if told is not None:
        return Fault("Deleting", "True", told.get("reason") or "Deleting", told["message"])
    finalizers = ", ".join(obj["metadata"].get("finalizers") or [])
    return Fault("Deleting", "True", "Deleting", f"waiting for {finalizers}" if finalizers else "it is about to go")
