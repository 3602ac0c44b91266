"""The status of a TenantControlPlane, computed from what one reconcile found. Pure.

Fields and values are Kamaji's. It has no conditions of its own; they stand on the Deployment that Kamaji would have made, of type
Available, Progressing and ReplicaFailure.
"""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Address

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.controlplane import ControlPlane
from pilvi.lib.clock import format_time
from pilvi.providers.kamaji.names import DEFAULT_DATASTORE, NAME_LABEL
from pilvi.providers.kamaji.tenantcontrolplane.secrets import PLACES, SERVICE_ACCOUNT, secret_name
from pilvi.runtime import merge_conditions

__all__ = ["Problem", "Progress", "compute_status", "find_deployment_condition", "installed_version", "recorded_digest", "recorded_keys"]

# Where the status records that an authority was made: key -> path below status.certificates.
_RECORDED = {"ca": ("ca",), "front-proxy-ca": ("frontProxyCA",), "etcd-ca": ("etcd", "ca"), SERVICE_ACCOUNT: ("sa",)}
_CERTIFICATES = {
    **_RECORDED,
    "apiserver": ("apiServer",),
    "apiserver-kubelet-client": ("apiServerKubeletClient",),
    "front-proxy-client": ("frontProxyClient",),
    "etcd-server": ("etcd", "apiServer"),
}
_KUBECONFIGS = {
    "admin": "admin-kubeconfig",
    "controllerManager": "controller-manager-kubeconfig",
    "scheduler": "scheduler-kubeconfig",
}


class Problem(msgspec.Struct, frozen=True):
    """What keeps a control plane from being as asked for: a reason in CamelCase, and a message with the next step."""

    reason: str
    message: str


class Progress(msgspec.Struct, kw_only=True):
    """What one reconcile has found so far; the phases fill it in.

    `checksums` are those of the Secrets, by suffix. `inside` is the digest of what kubeadm has written into the cluster. The
    add-ons are None while this reconcile has not got as far as them.
    `failing` tells of a component that keeps dying, while others may be well. `outdated` is what to say of a version that runs, but
    that clusters may have no more.
    """

    wanted: str
    installed: str | None
    service: JsonObject | None = None
    address: IPv4Address | None = None
    plane: ControlPlane | None = None
    data_store: tuple[str, str] | None = None
    checksums: dict[str, str] = {}
    ready: bool = False
    inside: str | None = None
    core_dns: bool | None = None
    kube_proxy: bool | None = None
    failing: Problem | None = None
    outdated: str | None = None
    problem: Problem | None = None


def installed_version(tenant: JsonObject) -> str | None:
    """The version that this TenantControlPlane runs; None before it ran for the first time."""
    return _dig(tenant, "kubernetesResources", "version").get("version") or None


def recorded_digest(tenant: JsonObject) -> str | None:
    """The digest of what kubeadm wrote into the cluster; None when it did not finish yet."""
    return _dig(tenant, "kubeadmPhase", "bootstrapToken").get("checksum") or None


def recorded_keys(tenant: JsonObject) -> frozenset[str]:
    """The authorities (and `sa`) that were made for this control plane at some time."""
    return frozenset(name for name, path in _RECORDED.items() if _dig(tenant, "certificates", *path).get("checksum"))


def find_deployment_condition(tenant: JsonObject, type: str) -> JsonObject | None:
    """The condition of that type, or None."""
    conditions: list[JsonObject] = _dig(tenant, "kubernetesResources", "deployment").get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == type), None)


def compute_status(tenant: JsonObject, progress: Progress, now: datetime) -> JsonObject:
    """The whole status. Times of what did not change are kept, so an unchanged state gives an equal status."""
    key = Key.of(tenant)
    old: JsonObject = tenant.get("status") or {}
    status: JsonObject = {
        "kubernetesResources": {
            "version": _version(progress),
            "deployment": _deployment(key, old, progress, now),
        },
    }
    if progress.problem is None:
        status["observedGeneration"] = tenant["metadata"].get("generation", 0)
    elif "observedGeneration" in old:
        status["observedGeneration"] = old["observedGeneration"]
    if progress.service is not None:
        status["kubernetesResources"]["service"] = _service(progress.service)
    if progress.plane is not None:
        status["controlPlaneEndpoint"] = progress.plane.endpoint
    elif old.get("controlPlaneEndpoint"):
        status["controlPlaneEndpoint"] = old["controlPlaneEndpoint"]
    if progress.checksums:
        status |= _certificates(key, old, progress, now)
    else:
        status |= {name: old[name] for name in ("certificates", "kubeconfig", "storage") if name in old}
    if progress.inside is not None:
        old_phase = (old.get("kubeadmPhase") or {}).get("bootstrapToken") or {}
        status["kubeadmPhase"] = {"bootstrapToken": _stamped(old_phase, {"checksum": progress.inside}, now)}
        old_addons = old.get("addons") or {}
        status["addons"] = {
            name: old_addons.get(name, {"enabled": False})
            if enabled is None
            else _stamped(old_addons.get(name) or {}, {"enabled": enabled}, now)
            for name, enabled in (("coreDNS", progress.core_dns), ("kubeProxy", progress.kube_proxy))
        }
    return status


def _version(progress: Progress) -> JsonObject:
    version: JsonObject = {"status": _phase(progress)}
    if progress.installed is not None:
        version["version"] = progress.installed
    return version


def _phase(progress: Progress) -> str:
    if progress.installed is None:
        return "Provisioning"
    upgrading = progress.plane is not None and progress.plane.version != progress.installed
    if upgrading:
        return "Upgrading"
    return "Ready" if progress.ready and progress.inside is not None else "NotReady"


def _deployment(key: Key, old: JsonObject, progress: Progress, now: datetime) -> JsonObject:
    before = (old.get("kubernetesResources") or {}).get("deployment") or {}
    ready = int(progress.ready)
    if progress.problem is not None:
        progressing = ("False", progress.problem.reason, progress.problem.message)
    elif progress.ready and progress.inside is not None:
        progressing = ("True", "UpgradeDue", progress.outdated) if progress.outdated else ("True", "ControlPlaneReady", "")
    else:
        progressing = ("True", "ControlPlaneStarting", "the components of the control plane are starting")
    available = ("True", "ApiServerReady", "") if progress.ready else ("False", "ApiServerNotReady", "the API server does not answer yet")
    failing = (
        ("True", progress.failing.reason, progress.failing.message) if progress.failing is not None else ("False", "ComponentsRunning", "")
    )
    conditions = [
        {"type": type, "status": status, "reason": reason, "message": message}
        for type, (status, reason, message) in (("Available", available), ("Progressing", progressing), ("ReplicaFailure", failing))
    ]
    return _stamped(
        before,
        {
            "name": key.name,
            "namespace": key.namespace,
            "selector": f"{NAME_LABEL}={key.name}",
            "replicas": 1,
            "updatedReplicas": int(progress.plane is not None),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": 1 - ready,
            "conditions": merge_conditions(before.get("conditions"), conditions, now=now),
        },
        now,
    )


def _service(service: JsonObject) -> JsonObject:
    status = service.get("status") or {}
    result: JsonObject = {
        "name": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "port": service["spec"]["ports"][0]["port"],
    }
    if ingress := (status.get("loadBalancer") or {}).get("ingress"):
        result["loadBalancer"] = {"ingress": ingress}
    if conditions := status.get("conditions"):
        result["conditions"] = conditions
    return result


def _certificates(key: Key, old: JsonObject, progress: Progress, now: datetime) -> JsonObject:
    def entry(before: JsonObject, suffix: str) -> JsonObject:
        return _stamped(before, {"checksum": progress.checksums[suffix], "secretName": secret_name(key.name, suffix)}, now)

    certificates: JsonObject = {}
    for name, path in _CERTIFICATES.items():
        parent = certificates
        for part in path[:-1]:
            parent = parent.setdefault(part, {})
        parent[path[-1]] = entry(_dig({"status": old}, "certificates", *path), PLACES[name].suffix)
    result: JsonObject = {
        "certificates": certificates,
        "kubeconfig": {name: entry(_dig({"status": old}, "kubeconfig", name), suffix) for name, suffix in _KUBECONFIGS.items()},
    }
    if progress.data_store is not None:
        schema, user = progress.data_store
        config = {"checksum": progress.checksums["datastore-config"], "secretName": secret_name(key.name, "datastore-config")}
        setup = {"checksum": config["checksum"], "schema": schema, "user": user}
        result["storage"] = {
            "dataStoreName": DEFAULT_DATASTORE,
            "driver": "etcd",
            "config": config,
            "certificate": entry(_dig({"status": old}, "storage", "certificate"), "datastore-certificate"),
            "setup": _stamped(_dig({"status": old}, "storage", "setup"), setup, now),
        }
    return result


def _stamped(old: JsonObject, new: JsonObject, now: datetime) -> JsonObject:
    """`new` with `lastUpdate`: kept from `old` when nothing else changed."""
    unchanged = {name: value for name, value in old.items() if name != "lastUpdate"} == new
    return {**new, "lastUpdate": old["lastUpdate"] if unchanged and "lastUpdate" in old else format_time(now)}


def _dig(tenant: JsonObject, *path: str) -> JsonObject:
    """A part of the status; empty when any step is missing."""
    part: JsonObject = tenant.get("status") or {}
    for name in path:
        part = part.get(name) or {}
    return part
