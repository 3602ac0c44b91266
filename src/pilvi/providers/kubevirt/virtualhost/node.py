"""The Node that stands for the host in the platform's API, and its Lease. Pure."""

from __future__ import annotations

import os
import platform as host_platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from pilvi.api.resource import JsonObject
from pilvi.lib.clock import format_micro_time, format_time
from pilvi.providers.kubevirt.virtualhost.capacity import Capacity, as_resources
from pilvi.providers.kubevirt.virtualhost.pressure import PRESSURES

__all__ = [
    "FAILED_TAINT",
    "KUBELET_PORT",
    "LEASE_NAMESPACE",
    "LEASE_SECONDS",
    "RENEW_SECONDS",
    "TAINT",
    "HostFacts",
    "new_lease",
    "new_node",
    "node_labels",
    "node_name",
    "plan_node_patch",
    "plan_node_status",
]

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
KUBELET_PORT = 10260
"""Where the platform's API server looks for this host's kubelet. Not the usual 10250: a real kubelet of the host may have that."""
TAINT: JsonObject = {"key": "pilvi.dev/machines-only", "effect": "NoSchedule"}
FAILED_TAINT: JsonObject = {"key": "pilvi.dev/failed", "effect": "NoSchedule"}
"""On a host that plays dead, before its machines are ended: no other may take their place there."""


_FAILED = "the host plays dead: `pilvi host recover NAME` ends that"


@dataclass(frozen=True)
class HostFacts:
    """What the Node says of the host. `address` is the host's on the cloud bridge."""

    name: str
    cloud_id: str
    address: IPv4Address
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    version: str


def node_name() -> str:
    """The host's name as a Node may be called."""
    name = os.uname().nodename.lower()
    allowed = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name).strip("-.")
    return allowed or "host"


def new_node(facts: HostFacts) -> JsonObject:
    """The Node as it is made."""
    return {"metadata": {"name": facts.name, "labels": node_labels(facts)}, "spec": {"taints": [TAINT]}}


def node_labels(facts: HostFacts) -> dict[str, str]:
    """The labels that the scheduler and KubeVirt's tools look for, and the cloud that the host belongs to."""
    return {
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "kubevirt.io/schedulable": "true",
        "node-role.kubernetes.io/virtual-host": "",
        "pilvi.dev/cloud": facts.cloud_id,
    }


def plan_node_patch(facts: HostFacts, node: JsonObject, *, failed: bool = False, leaving: bool = False) -> JsonObject:
    """The merge patch that gives a stored Node its labels and taints; empty when it has them. One that is `leaving` is cordoned.

    Labels and taints of others stay: a cordon, and what the node lifecycle controller puts on a host whose engine was away.
    """
    patch: JsonObject = {}
    labels = node["metadata"].get("labels") or {}
    missing = {name: value for name, value in node_labels(facts).items() if labels.get(name) != value}
    if missing:
        patch["metadata"] = {"labels": missing}
    taints = (node.get("spec") or {}).get("taints") or []
    wanted = [taint for taint in taints if failed or not _is_same(taint, FAILED_TAINT)]
    wanted += [ours for ours in (TAINT, *([FAILED_TAINT] if failed else [])) if not any(_is_same(taint, ours) for taint in taints)]
    if wanted != taints:
        patch["spec"] = {"taints": wanted}
    if leaving and not (node.get("spec") or {}).get("unschedulable"):
        patch.setdefault("spec", {})["unschedulable"] = True
    return patch


def _is_same(taint: JsonObject, ours: JsonObject) -> bool:
    return bool(taint["key"] == ours["key"] and taint["effect"] == ours["effect"])


def plan_node_status(
    facts: HostFacts,
    capacity: Capacity,
    left: Capacity,
    pressures: Mapping[str, str],
    old: JsonObject,
    now: datetime,
    *,
    failed: bool = False,
) -> JsonObject:
    """The parts of `status` that a kubelet would report; `pressures` are `find_pressures`, `old` is the status that is stored.

    Of a host that has `failed` it is said at once what others would find out by its silence.
    """
    before = {entry["type"]: entry for entry in old.get("conditions") or []}
    conditions = []
    for kind, status, reason, message in (
        *(
            (kind, "True", bad, pressures[kind]) if kind in pressures else (kind, "False", good, message)
            for kind, (bad, good, message) in PRESSURES.items()
        ),
        ("Ready", "Unknown", "HostFailed", _FAILED) if failed else ("Ready", "True", "EngineReady", "pilvi's engine answers for this host"),
    ):
        stored = before.get(kind) or {}
        since = stored.get("lastTransitionTime") if stored.get("status") == status else None
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                # The heartbeat is the Lease; a new time here would be a write for each look.
                "lastHeartbeatTime": (stored.get("lastHeartbeatTime") if since else None) or format_time(now),
                "lastTransitionTime": since or format_time(now),
            }
        )
    return {
        "capacity": as_resources(capacity),
        "allocatable": as_resources(left),
        "conditions": conditions,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "addresses": [{"type": "InternalIP", "address": str(facts.address)}, {"type": "Hostname", "address": facts.name}],
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": facts.boot_id,
            "containerRuntimeVersion": f"pilvi://{facts.version}",
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": f"pilvi-{facts.version}",
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": "",
        },
    }


def new_lease(facts: HostFacts, node_uid: str, now: datetime) -> JsonObject:
    """The Lease that says until when the Node counts as alive."""
    return {
        "metadata": {
            "name": facts.name,
            "namespace": LEASE_NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": facts.name, "uid": node_uid}],
        },
        "spec": {"holderIdentity": facts.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": format_micro_time(now)},
    }


def architecture() -> str:
    """As Go and Kubernetes call the host's architecture."""
    machine = host_platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
