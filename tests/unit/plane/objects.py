"""A cluster as it looks in the API, with knobs for what is wrong."""

from __future__ import annotations

from typing import Any

from pilvi.api import JsonObject
from pilvi.plane.world import World

NAMESPACE = "default"
CREATED = "2026-01-01T00:00:00Z"
SECRET: JsonObject = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "s",
        "managedFields": [{"manager": "x"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "kept": "yes"},
    },
    "data": {"key": "aHVudGVyMg=="},
    "stringData": {"plain": "hunter2"},
}


def cond(type: str, status: str = "True", reason: str = "", message: str = "", since: str = CREATED) -> JsonObject:
    return {"type": type, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def obj(kind: str, name: str, *conditions: JsonObject, owner: str = "", namespace: str = NAMESPACE, **fields: Any) -> JsonObject:
    """An object whose uid is `<kind>/<name>`; `owner` is the uid of its controller."""
    metadata: JsonObject = {"name": name, "uid": f"{kind}/{name}", "creationTimestamp": fields.pop("created", CREATED)}
    if namespace:
        metadata["namespace"] = namespace
    if owner:
        owner_kind, _, owner_name = owner.partition("/")
        metadata["ownerReferences"] = [{"kind": owner_kind, "name": owner_name, "uid": owner, "controller": True}]
    metadata |= fields.pop("metadata", {})
    status = {"conditions": list(conditions), **fields.pop("status", {})}
    return {"apiVersion": "test/v1", "kind": kind, "metadata": metadata, "spec": fields.pop("spec", {}), "status": status, **fields}


def tenant_control_plane(*conditions: JsonObject) -> JsonObject:
    tenant = obj("TenantControlPlane", "first", owner="KamajiControlPlane/first")
    tenant["status"] = {"kubernetesResources": {"deployment": {"conditions": list(conditions)}}}
    return tenant


def ready_cluster() -> dict[str, JsonObject]:
    """All objects of a cluster with one worker, all ready, by uid."""
    network = {"pilvi.dev/owner-uid": "KubevirtCluster/first"}
    objects = [
        obj("Cluster", "first", cond("Available"), spec={"topology": {"version": "v1.37.2"}}),
        obj("KubevirtCluster", "first", cond("NetworkReady", since="2026-01-01T00:00:01Z"), cond("Ready"), owner="Cluster/first"),
        obj("Vpc", "net", cond("Ready"), cond("Error", "False"), namespace="", metadata={"labels": network}),
        obj("Subnet", "net", cond("Ready"), cond("Error", "False"), namespace="", metadata={"labels": network}),
        obj("KamajiControlPlane", "first", cond("Available"), cond("ReplicasLimited"), owner="Cluster/first"),
        tenant_control_plane(cond("Available", since="2026-01-01T00:00:05Z"), cond("Progressing"), cond("ReplicaFailure", "False")),
        obj(
            "MachineDeployment",
            "first-workers",
            cond("Available"),
            cond("RollingOut", "False"),
            owner="Cluster/first",
            spec={"clusterName": "first", "replicas": 1},
        ),
        obj("MachineSet", "first-workers-a", cond("MachinesReady"), owner="MachineDeployment/first-workers"),
        obj(
            "Machine",
            "m1",
            cond("Available"),
            cond("Ready"),
            cond("NodeReady"),
            owner="MachineSet/first-workers-a",
            spec={"clusterName": "first", "version": "v1.37.2"},
        ),
        obj("KubeadmConfig", "m1", cond("Ready"), owner="Machine/m1"),
        obj("KubevirtMachine", "m1", cond("VMProvisioned"), cond("Ready"), owner="Machine/m1"),
        obj("VirtualMachine", "m1", cond("Ready"), owner="KubevirtMachine/m1"),
        obj(
            "VirtualMachineInstance",
            "m1",
            cond("Ready"),
            cond("LiveMigratable", "False"),
            cond("pilvi.dev/Fidelity", "True", "Sandbox"),
            owner="VirtualMachine/m1",
            created="2026-01-01T00:00:08Z",
            status={"phase": "Running", "interfaces": [{"ipAddress": "10.9.0.2"}]},
        ),
        obj("Pod", "virt-launcher-m1", cond("PodScheduled"), cond("Ready", "False"), owner="VirtualMachineInstance/m1"),
    ]
    return {entry["metadata"]["uid"]: entry for entry in objects}


def world_of(objects: dict[str, JsonObject], *events: JsonObject) -> World:
    return World(list(objects.values()), list(events))


def replace_conditions(objects: dict[str, JsonObject], uid: str, *conditions: JsonObject) -> None:
    objects[uid] = {**objects[uid], "status": {**objects[uid]["status"], "conditions": list(conditions)}}


def event(uid: str, reason: str, message: str, moment: str, count: int = 1) -> JsonObject:
    return {
        "metadata": {"name": reason},
        "involvedObject": {"uid": uid},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": moment,
        "count": count,
    }
