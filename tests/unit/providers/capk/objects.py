"""Objects of Cluster API and CAPK as tests need them."""

from __future__ import annotations

import base64
from typing import Any

from pilvi.api import JsonObject

CAPI = "cluster.x-k8s.io/v1beta2"
INFRA = "infrastructure.cluster.x-k8s.io/v1alpha1"


def make_cluster(*, provisioned: bool = True, initialized: bool = True, paused: bool = False, **network: Any) -> JsonObject:
    return {
        "apiVersion": CAPI,
        "kind": "Cluster",
        "metadata": {"name": "first", "namespace": "shop"},
        "spec": {
            "paused": paused,
            "clusterNetwork": {"pods": {"cidrBlocks": ["10.244.0.0/16"]}, "services": {"cidrBlocks": ["10.96.0.0/16"]}, **network},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "KubevirtCluster", "name": "first"},
        },
        "status": {"initialization": {"infrastructureProvisioned": provisioned, "controlPlaneInitialized": initialized}},
    }


def make_kubevirt_cluster(*, managed: bool = True, **annotations: str) -> JsonObject:
    notes = {name.replace("__", "/").replace("_", "."): value for name, value in annotations.items()}
    if managed:
        notes["cluster.x-k8s.io/managed-by"] = "kamaji"
    return {
        "apiVersion": INFRA,
        "kind": "KubevirtCluster",
        "metadata": {
            "name": "first",
            "namespace": "shop",
            "uid": "kc-uid",
            "annotations": notes,
            "ownerReferences": [{"apiVersion": CAPI, "kind": "Cluster", "name": "first", "uid": "c-uid"}],
        },
        "spec": {},
    }


def make_machine(*, data: str | None = "first-md-0-abcde", control_plane: bool = False) -> JsonObject:
    labels = {"cluster.x-k8s.io/cluster-name": "first"}
    if control_plane:
        labels["cluster.x-k8s.io/control-plane"] = ""
    return {
        "apiVersion": CAPI,
        "kind": "Machine",
        "metadata": {"name": "first-md-0-abcde", "namespace": "shop", "labels": labels},
        "spec": {
            "clusterName": "first",
            "bootstrap": {"dataSecretName": data} if data else {},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "KubevirtMachine", "name": "first-md-0-abcde"},
        },
    }


def make_kubevirt_machine(**template_annotations: str) -> JsonObject:
    return {
        "apiVersion": INFRA,
        "kind": "KubevirtMachine",
        "metadata": {
            "name": "first-md-0-abcde",
            "namespace": "shop",
            "uid": "km-uid",
            "labels": {"cluster.x-k8s.io/cluster-name": "first"},
            "ownerReferences": [{"apiVersion": CAPI, "kind": "Machine", "name": "first-md-0-abcde", "uid": "m-uid", "controller": True}],
        },
        "spec": {
            "virtualMachineTemplate": {
                "metadata": {"labels": {"team": "a"}, "annotations": {"pilvi.dev/machine": "sandbox"}},
                "spec": {
                    "runStrategy": "Always",
                    "template": {
                        "metadata": {"annotations": dict(template_annotations)},
                        "spec": {
                            "domain": {"cpu": {"cores": 2}, "memory": {"guest": "2Gi"}, "devices": {"disks": [{"name": "root"}]}},
                            "volumes": [{"name": "root", "containerDisk": {"image": "pilvi.dev/node:v1.37.2"}}],
                        },
                    },
                },
            },
            "virtualMachineBootstrapCheck": {"checkStrategy": "none"},
        },
    }


def make_bootstrap_secret() -> JsonObject:
    return {
        "metadata": {"name": "first-md-0-abcde", "namespace": "shop"},
        "data": {"value": base64.b64encode(b"#cloud-config").decode(), "format": ""},
    }


def make_subnet(name: str, vpc: str, *, cidr: str = "10.9.0.0/16", ready: bool = True) -> JsonObject:
    condition = {"type": "Ready", "status": str(ready), "reason": "Routed", "message": ""}
    return {"metadata": {"name": name}, "spec": {"vpc": vpc, "cidrBlock": cidr}, "status": {"conditions": [condition]}}


def ready_vmi(**status: Any) -> JsonObject:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "first-md-0-abcde", "namespace": "shop", "labels": {"kubevirt.io/vm": "first-md-0-abcde"}},
        "spec": {},
        "status": {
            "phase": "Running",
            "interfaces": [{"name": "default", "ipAddress": "10.9.0.7"}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "GuestRunning"},
                {"type": "pilvi.dev/FirstBoot", "status": "True", "reason": "Completed"},
            ],
            **status,
        },
    }
