"""The virt-launcher Pod that stands for a machine in the Kubernetes API, and the status that its kubelet (this engine) reports. Pure.

Nothing runs in it: it is there so that the real scheduler chooses the virtual host, and so that Services, quotas, eviction and
`kubectl get pods` see the machine as they see one of KubeVirt's. Its image is never pulled.
"""

from __future__ import annotations

from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.lib.hashing import short_hash
from pilvi.lib.quantity import format_bytes, format_milli, quantity_bytes
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.instance.volumes.serviceaccount import find_service_account
from pilvi.providers.sizing import Size, find_hugepage_bytes, get_size

__all__ = [
    "CREATED_BY",
    "LAUNCHER",
    "RESTRICTED",
    "TOLERATIONS",
    "launcher_name",
    "machine_container_id",
    "new_launcher",
    "plan_pod_status",
    "plan_requests",
]

LAUNCHER = {"kubevirt.io": "virt-launcher"}
CREATED_BY = "kubevirt.io/created-by"
CONTAINER = "compute"

# The host runs nothing but machines, and a machine outlives an engine that is away: neither taint may end it.
TOLERATIONS: list[JsonObject] = [
    {"key": "pilvi.dev/machines-only", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
]
# Nothing runs in it, so it may as well pass the strictest pod security standard of its namespace.
RESTRICTED: JsonObject = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 107,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# KubeVirt's share of a CPU that a vCPU is charged (cpuAllocationRatio 10).
_MILLI_PER_VCPU = 100
_LEAST_MEMORY = 1 << 20
# What names an object to its own controllers, not to the Pod's.
_NOT_FOR_PODS = ("kubectl.kubernetes.io/last-applied-configuration",)


def launcher_name(vmi: JsonObject) -> str:
    """`virt-launcher-<vmi>-<5 characters>`; the hash of the UID, so that making it twice makes one."""
    return f"virt-launcher-{vmi['metadata']['name']}-{short_hash(vmi['metadata']['uid'])[:5]}"


def new_launcher(vmi: JsonObject, image: str, overhead_bytes: int = 0) -> JsonObject:
    """The Pod of `vmi`; `overhead_bytes` is what its machine needs of the host's memory beyond the guest's.

    Raises UserError when the size of the machine is not given or wrong.
    """
    metadata, spec = vmi["metadata"], vmi["spec"]
    account = find_service_account(spec)
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name not in _NOT_FOR_PODS}
    return {
        "metadata": {
            "name": launcher_name(vmi),
            "namespace": metadata["namespace"],
            "labels": {
                **(metadata.get("labels") or {}),
                **LAUNCHER,
                CREATED_BY: metadata["uid"],
                "vm.kubevirt.io/name": metadata["name"],
            },
            "annotations": {**annotations, "kubevirt.io/domain": metadata["name"]},
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachineInstance",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "Never",
                    "resources": _resources(vmi, overhead_bytes),
                    "securityContext": RESTRICTED,
                }
            ],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostname": metadata["name"].replace(".", "-")[:63].rstrip("-"),
            # Machines are stopped by the engine; the grace of an eviction is the guest's own.
            "terminationGracePeriodSeconds": _grace_s(spec),
            "tolerations": [*(spec.get("tolerations") or []), *TOLERATIONS],
            "nodeSelector": {**(spec.get("nodeSelector") or {}), "kubevirt.io/schedulable": "true"},
            **({"serviceAccountName": account} if account else {}),
            **_volumes(spec),
            **{
                name: spec[name]
                for name in ("affinity", "priorityClassName", "topologySpreadConstraints", "schedulerName")
                if spec.get(name)
            },
        },
    }


def plan_pod_status(
    pod: JsonObject,
    *,
    phase: str,
    address: str | None,
    started_at: str | None,
    ready: bool,
    message: str,
    host: str,
    reason: str = "MachineStarting",
) -> JsonObject:
    """`status` of a launcher Pod as its kubelet writes it.

    `phase` is a Pod phase; `started_at` when the machine began to run (RFC 3339) or None; `message` says why it is not ready, `reason`
    the same in one word while it has not begun. Times of conditions are left to the caller's merge.
    """
    container: JsonObject = {
        "name": pod["spec"]["containers"][0]["name"],
        "image": pod["spec"]["containers"][0]["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": _container_state(phase, started_at, reason, message),
        # A kubelet says so that it has taken up what the Pod requests by now.
        "resources": pod["spec"]["containers"][0].get("resources") or {},
        "allocatedResources": (pod["spec"]["containers"][0].get("resources") or {}).get("requests") or {},
    }
    if started_at is not None:
        container["containerID"] = machine_container_id(pod)
    unready = {"reason": "ContainersNotReady", "message": message}
    if phase in ("Succeeded", "Failed"):
        unready = {"reason": "PodCompleted", "message": message}
    done = {} if ready else unready
    truth = "True" if ready else "False"
    status: JsonObject = {
        "phase": phase,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "startTime": (pod.get("status") or {}).get("startTime") or started_at,
        "containerStatuses": [container],
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": truth, **done},
            {"type": "Ready", "status": truth, **done},
        ],
    }
    if address is not None:
        status["podIP"] = address
        status["podIPs"] = [{"ip": address}]
    if status["startTime"] is None:
        del status["startTime"]
    return status


def machine_container_id(pod: JsonObject) -> str:
    """A container id for tools that ask for one; it names the machine, as no container is behind it."""
    return f"pilvi://{(pod['metadata'].get('labels') or {}).get(CREATED_BY, '')}"


def _resources(vmi: JsonObject, overhead_bytes: int) -> dict[str, Any]:
    requests = plan_requests(vmi["spec"], get_size(vmi["spec"]), overhead_bytes)
    # Kubernetes wants limits for huge pages.
    huge = {name: amount for name, amount in requests.items() if name.startswith("hugepages-")}
    return {"requests": requests, **({"limits": huge} if huge else {})}


def plan_requests(spec: JsonObject, size: Size, overhead_bytes: int) -> dict[str, str]:
    """What the Pod of a machine of that size requests: what the instance's specification says, else what the size needs."""
    resources = (spec.get("domain") or {}).get("resources") or {}
    asked = resources.get("requests") or {}
    if resources.get("overcommitGuestOverhead"):
        overhead_bytes = 0
    cpu = str(asked.get("cpu") or format_milli(size.vcpus * _MILLI_PER_VCPU))
    page_bytes = find_hugepage_bytes(spec)
    if page_bytes is None:
        return {"cpu": cpu, "memory": format_bytes(_memory_bytes(asked, size) + overhead_bytes)}
    # Something beside the huge pages is wanted by Kubernetes too.
    huge = {f"hugepages-{format_bytes(page_bytes)}": format_bytes(size.memory_bytes)}
    return {"cpu": cpu, "memory": format_bytes(overhead_bytes or _LEAST_MEMORY), **huge}


def _memory_bytes(asked: JsonObject, size: Size) -> int:
    return quantity_bytes(asked["memory"]) if asked.get("memory") else size.memory_bytes


def _volumes(spec: JsonObject) -> JsonObject:
    """The claims of the machine: so they are bound for it, and not deleted under it. Those that come and go have Pods of their own."""
    found = {volume["name"]: find_claim(volume) for volume in spec.get("volumes") or []}
    named = {name: claim for name, claim in found.items() if claim is not None and not claim.hotpluggable}
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim.name, **({"readOnly": True} if claim.read_only else {})}}
        for name, claim in named.items()
    ]
    return {"volumes": volumes} if volumes else {}


def _grace_s(spec: JsonObject) -> int:
    grace = spec.get("terminationGracePeriodSeconds")
    # As in KubeVirt, a little longer than the guest's own.
    return (30 if grace is None else int(grace)) + 15


def _container_state(phase: str, started_at: str | None, reason: str, message: str) -> JsonObject:
    if phase in ("Succeeded", "Failed"):
        code = 0 if phase == "Succeeded" else 1
        return {
            "terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message, "startedAt": started_at}
        }
    if started_at is not None:
        return {"running": {"startedAt": started_at}}
    return {"waiting": {"reason": reason, "message": message}}
