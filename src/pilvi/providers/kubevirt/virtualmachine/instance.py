"""The VirtualMachineInstance that a VirtualMachine starts. Pure.

Defaults that KubeVirt's webhooks fill in are filled in here, so that a reader of the instance sees what it runs with.
"""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubevirt.instancetype.matcher import revision_names
from pilvi.providers.kubevirt.virtualmachine.headroom import give_headroom
from pilvi.providers.kubevirt.virtualmachine.interfaces import without_absent
from pilvi.providers.kubevirt.virtualmachine.memorydump import without_dump
from pilvi.runtime.owners import is_controlled_by

__all__ = [
    "GENERATION",
    "INSTANCE_FINALIZER",
    "TEMPLATE_HASH",
    "find_name_taken",
    "new_instance",
    "template_hash",
    "with_defaults",
    "with_devices",
]

GENERATION = "kubevirt.io/vm-generation"
TEMPLATE_HASH = "pilvi.dev/template-hash"
"""Annotation on an instance: what of the template it was started with, so that a later change is seen as one that needs a restart."""
INSTANCE_FINALIZER = "kubevirt.io/foregroundDeleteVirtualMachine"

# KubeVirt's own name space for firmware UUIDs made from names (pkg/virt-controller/watch/vm/firmware.go), so that a machine keeps its
# UUID when its objects move to a rack.
_FIRMWARE_NAMESPACE = uuid.UUID("6a1a24a1-4061-4607-8bf4-a3963d0c5895")


def find_name_taken(instance: JsonObject | None, vm: JsonObject) -> str | None:
    """Why `vm` cannot have its instance, given the one of that name (None: there is none); None when it can."""
    if instance is None or is_controlled_by(instance, vm):
        return None
    name = instance["metadata"]["name"]
    return f"a VirtualMachineInstance {name} that is not this machine's is in the way; delete it or rename the machine"


def new_instance(vm: JsonObject, expanded: JsonObject | None = None) -> JsonObject:
    """The instance of `vm`: same name and namespace, the template's labels, annotations and specification with defaults.

    `expanded` is the template with the machine's instancetype and preference, where it has these.
    """
    metadata = vm["metadata"]
    template: dict[str, Any] = expanded or vm["spec"].get("template") or {}
    described = template.get("metadata") or {}
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": dict(described.get("labels") or {}),
            "annotations": {
                **(described.get("annotations") or {}),
                GENERATION: str(metadata.get("generation") or 1),
                TEMPLATE_HASH: template_hash(vm),
            },
            "finalizers": [INSTANCE_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachine",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            **give_headroom(without_absent(with_defaults(without_dump(vm, template.get("spec") or {}), metadata["name"]))),
            **_start_strategy(vm),
        },
    }


def _start_strategy(vm: JsonObject) -> JsonObject:
    """What `virtctl start --paused` asks for in the request that stands first once there is no instance."""
    requests = [each for each in (vm.get("status") or {}).get("stateChangeRequests") or [] if each.get("action") == "Start"]
    paused = bool(requests) and (requests[0].get("data") or {}).get("paused") == "true"
    return {"startStrategy": "Paused"} if paused else {}


def template_hash(vm: JsonObject) -> str:
    """A short hash of the specification that the instances of `vm` are made from."""
    spec = json.dumps((vm["spec"].get("template") or {}).get("spec") or {}, sort_keys=True)
    return short_hash("".join((spec, *revision_names(vm))))


def with_defaults(spec: JsonObject, name: str) -> JsonObject:
    """`spec` with the defaults of KubeVirt's webhooks: machine type, firmware UUID, and what `with_devices` puts in."""
    spec = with_devices(spec)
    machine = _ensure(spec["domain"], "machine")
    machine["type"] = machine.get("type") or "q35"
    _ensure(spec["domain"], "firmware").setdefault("uuid", str(uuid.uuid5(_FIRMWARE_NAMESPACE, name)))
    return spec


def with_devices(spec: JsonObject) -> JsonObject:
    """`spec` with the default devices: the pod network, and a disk for each volume without one."""
    spec = copy.deepcopy(spec)
    devices = _ensure(_ensure(spec, "domain"), "devices")
    if not spec.get("networks") and not devices.get("interfaces") and devices.get("autoattachPodInterface") is not False:
        spec["networks"] = [{"name": "default", "pod": {}}]
        devices["interfaces"] = [{"name": "default", "bridge": {}}]
    disks = devices.get("disks") or []
    named = {device["name"] for kind in ("disks", "filesystems") for device in devices.get(kind) or []}
    missing = [volume["name"] for volume in spec.get("volumes") or [] if volume["name"] not in named and not volume.get("memoryDump")]
    if disks or missing:
        devices["disks"] = [*disks, *({"name": name} for name in missing)]
    return spec


def _ensure(parent: JsonObject, name: str) -> JsonObject:
    # `setdefault` is not enough: a manifest may hold `domain:` with nothing below, which is null.
    if parent.get(name) is None:
        parent[name] = {}
    part: JsonObject = parent[name]
    return part
