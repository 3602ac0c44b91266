"""What has to be inside a tenant cluster before nodes can join: written by the kubeadm of its own version.

Run once for each state of `digest`, which the status records. Everything here may be called repeatedly.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import yaml

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from pilvi.api.kamaji import TenantControlPlaneSpec
from pilvi.controlplane import (
    ADDON_COREDNS,
    ADDON_KUBE_PROXY,
    BOOTSTRAP_TOKEN,
    COREDNS_PATCH,
    UPLOAD_CONFIG,
    ControlPlane,
    KubeadmOptions,
    kubeadm_config,
    run_phase,
)
from pilvi.kube import Client
from pilvi.lib.json_patch import apply_json_patch
from pilvi.lib.together import together
from pilvi.providers.kamaji.names import MANAGER
from pilvi.providers.kamaji.tenantcontrolplane.plane import addons_of, kubeadm_options

__all__ = ["digest", "ensure_inside"]

SYSTEM = "kube-system"
PATCHES_FIELD = "spec.kubernetes.kubelet.configurationJSONPatches"
PATCHES_HINT = "compare the path with `kubectl -n kube-system get configmap kubelet-config -o yaml` of the cluster"

# kubeadm writes this one when it makes admin.conf, which here it does not: without it admin.conf and the API server's own
# client certificate (for logs and exec) may do nothing.
CLUSTER_ADMINS: JsonObject = CLUSTER_ROLE_BINDINGS.new(
    Key("", "kubeadm:cluster-admins"),
    roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    subjects=[{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}],
)

COREDNS: tuple[tuple[Resource, Key], ...] = (
    (DEPLOYMENTS, Key(SYSTEM, "coredns")),
    (SERVICES, Key(SYSTEM, "kube-dns")),
    (CONFIG_MAPS, Key(SYSTEM, "coredns")),
    (SERVICE_ACCOUNTS, Key(SYSTEM, "coredns")),
    (CLUSTER_ROLE_BINDINGS, Key("", "system:coredns")),
    (CLUSTER_ROLES, Key("", "system:coredns")),
)
KUBE_PROXY: tuple[tuple[Resource, Key], ...] = (
    (DAEMON_SETS, Key(SYSTEM, "kube-proxy")),
    (CONFIG_MAPS, Key(SYSTEM, "kube-proxy")),
    (SERVICE_ACCOUNTS, Key(SYSTEM, "kube-proxy")),
    (CLUSTER_ROLE_BINDINGS, Key("", "kubeadm:node-proxier")),
    (ROLE_BINDINGS, Key(SYSTEM, "kube-proxy")),
    (ROLES, Key(SYSTEM, "kube-proxy")),
)


def digest(plane: ControlPlane, spec: TenantControlPlaneSpec) -> str:
    """Changes when something inside the cluster has to be written again."""
    addons = addons_of(spec)
    options = kubeadm_options(spec)
    parts = (
        kubeadm_config(plane, options),
        kubeadm_config(plane, options, ADDON_KUBE_PROXY),
        COREDNS_PATCH,
        str((addons.core_dns is not None, addons.kube_proxy is not None, plane.dns_address)),
        msgspec.json.encode(spec.kubernetes.kubelet.configuration_json_patches).decode(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


async def ensure_inside(plane: ControlPlane, spec: TenantControlPlaneSpec, client: Client) -> None:
    """Write kubeadm's ConfigMaps, bootstrap RBAC and add-ons; remove add-ons that are no longer asked for.

    `client` is an administrator of the tenant. Raises DriverError when kubeadm fails, UserError when a kubelet patch does not fit,
    and what the tenant's API raises.
    """
    options, addons = kubeadm_options(spec), addons_of(spec)
    kubeconfig = plane.kubeconfig("super-admin")

    async def phase(name: tuple[str, ...]) -> None:
        await run_phase(plane, kubeconfig, options, name)

    await together(
        client.apply(CLUSTER_ROLE_BINDINGS, CLUSTER_ADMINS, manager=MANAGER),
        _upload_config(plane, spec, options, client),
        phase(BOOTSTRAP_TOKEN),
        phase(ADDON_KUBE_PROXY) if addons.kube_proxy is not None else _remove(client, KUBE_PROXY),
        _add_dns(plane, options, client) if addons.core_dns is not None else _remove(client, COREDNS),
    )


async def _upload_config(plane: ControlPlane, spec: TenantControlPlaneSpec, options: KubeadmOptions, client: Client) -> None:
    await run_phase(plane, plane.kubeconfig("super-admin"), options, UPLOAD_CONFIG)
    patches = spec.kubernetes.kubelet.configuration_json_patches
    if not patches:
        return
    config_map = await client.get(CONFIG_MAPS, Key(SYSTEM, "kubelet-config"))
    document = yaml.safe_load(config_map["data"]["kubelet"])
    operations = [_operation(patch) for patch in patches]
    # Kamaji applies them to the document that kubeadm uploads, so here too they meet upstream's document of that release.
    changed = apply_json_patch(document, operations, field=PATCHES_FIELD, hint=PATCHES_HINT)
    text = yaml.safe_dump(changed, sort_keys=False)
    await client.patch(CONFIG_MAPS, Key(SYSTEM, "kubelet-config"), {"data": {"kubelet": text}}, manager=MANAGER)


def _operation(patch: msgspec.Struct) -> dict[str, Any]:
    operation: dict[str, Any] = msgspec.to_builtins(patch)
    if operation["op"] in ("add", "replace", "test"):
        operation.setdefault("value", None)  # a null value is left out of the struct's JSON
    return operation


async def _add_dns(plane: ControlPlane, options: KubeadmOptions, client: Client) -> None:
    """CoreDNS by kubeadm, whose Service always has the tenth address; where another one is asked for, the Service is made anew with it."""
    key = Key(SYSTEM, "kube-dns")
    wanted = plane.dns_address
    usual = plane.service_cidr[10]
    service = await client.find(SERVICES, key)
    if service is not None and service["spec"].get("clusterIP") != str(usual):
        # kubeadm updates the Service it finds, and an address cannot change.
        await client.ensure_absent(SERVICES, key)
    await run_phase(plane, plane.kubeconfig("super-admin"), options, ADDON_COREDNS)
    if wanted == usual:
        return
    service = await client.get(SERVICES, key)
    await client.ensure_absent(SERVICES, key)
    spec = {name: value for name, value in service["spec"].items() if name not in ("clusterIP", "clusterIPs")}
    metadata = {"labels": service["metadata"].get("labels", {}), "annotations": service["metadata"].get("annotations", {})}
    await client.create(SERVICES, SERVICES.new(key, metadata=metadata, spec={**spec, "clusterIP": str(wanted)}), manager=MANAGER)


async def _remove(client: Client, objects: tuple[tuple[Resource, Key], ...]) -> None:
    for resource, key in objects:
        await client.ensure_absent(resource, key)
