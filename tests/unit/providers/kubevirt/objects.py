"""Objects of KubeVirt as tests need them."""

from __future__ import annotations

from typing import Any

from pilvi.api import JsonObject

UID = "11111111-2222-3333-4444-555555555555"


def make_vm(strategy: str | None = "Always", **status: Any) -> JsonObject:
    spec: JsonObject = {"template": {"metadata": {"labels": {"app": "web"}, "annotations": {"note": "kept"}}, "spec": make_vmi_spec()}}
    if strategy is not None:
        spec["runStrategy"] = strategy
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vm-uid", "generation": 3},
        "spec": spec,
        "status": status,
    }


def make_vmi(phase: str = "", *, deleting: bool = False, **status: Any) -> JsonObject:
    metadata: JsonObject = {"name": "web", "namespace": "shop", "uid": UID, "resourceVersion": "7", "labels": {"app": "web"}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    if phase:
        status["phase"] = phase
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": metadata,
        "spec": make_vmi_spec(),
        "status": status,
    }


def make_vmi_spec(image: str = "pilvi.dev/node:v1.37.2") -> JsonObject:
    return {
        "domain": {
            "cpu": {"cores": 2},
            "memory": {"guest": "1536Mi"},
            "resources": {"limits": {"cpu": "1500m"}},
            "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]},
        },
        "volumes": [{"name": "root", "containerDisk": {"image": image}}],
    }


def make_ip() -> JsonObject:
    return {
        "metadata": {"name": "web.shop"},
        "spec": {"v4IpAddress": "10.9.0.5", "ipAddress": "10.9.0.5", "macAddress": "02:00:00:00:00:05", "subnet": "net"},
    }


def make_subnet() -> JsonObject:
    return {"metadata": {"name": "net", "uid": "subnet-uid"}, "spec": {"cidrBlock": "10.9.0.0/16", "vpc": "vpc"}}


def make_vpc() -> JsonObject:
    return {"metadata": {"name": "vpc", "uid": "vpc-uid"}, "spec": {}}
