"""The VirtualMachine and the Secret that a KubevirtMachine becomes. Pure.

What is passed on, which labels are added and how the user data is attached is CAPK's (pkg/kubevirt/utils.go).
"""

from __future__ import annotations

import copy

from pilvi.api import JsonObject
from pilvi.providers.capk.names import CLUSTER_NAME, CONTROL_PLANE, LOGICAL_SWITCH, MACHINE_NAME, MACHINE_NAMESPACE, ROLE
from pilvi.runtime import owner_reference

__all__ = [
    "CLOUD_INIT_VOLUME",
    "PROVIDER_ID",
    "is_control_plane",
    "new_user_data_secret",
    "new_virtual_machine",
    "plan_addresses",
    "user_data_name",
]

PROVIDER_ID = "kubevirt://"
CLOUD_INIT_VOLUME = "cloudinitvolume"


def user_data_name(bootstrap_secret: str) -> str:
    """Name of the Secret that the machine reads its user data from."""
    return f"{bootstrap_secret}-userdata"


def is_control_plane(machine: JsonObject) -> bool:
    """Whether the Cluster API Machine is one of the control plane's."""
    return CONTROL_PLANE in (machine["metadata"].get("labels") or {})


def new_user_data_secret(kubevirt_machine: JsonObject, bootstrap: JsonObject, cluster_name: str) -> JsonObject:
    """A copy of the bootstrap data under the key that KubeVirt reads, owned by the KubevirtMachine."""
    return {
        "metadata": {
            "name": user_data_name(bootstrap["metadata"]["name"]),
            "namespace": kubevirt_machine["metadata"]["namespace"],
            "labels": {CLUSTER_NAME: cluster_name},
            "ownerReferences": [owner_reference(kubevirt_machine)],
        },
        "type": "Opaque",
        "data": {"userdata": bootstrap["data"]["value"]},
    }


def new_virtual_machine(kubevirt_machine: JsonObject, machine: JsonObject, cluster_name: str, user_data: str, subnet: str) -> JsonObject:
    """The VirtualMachine of `kubevirt_machine`, with the user data of Secret `user_data`, in `subnet` unless its template names one."""
    metadata = kubevirt_machine["metadata"]
    name = metadata["name"]
    template = (kubevirt_machine.get("spec") or {}).get("virtualMachineTemplate") or {}
    outer = template.get("metadata") or {}
    spec = copy.deepcopy(template.get("spec") or {})
    inner = spec.get("template") or {}
    inner_metadata = inner.get("metadata") or {}
    ours = {
        "kubevirt.io/vm": name,
        "name": name,
        ROLE: "control-plane" if is_control_plane(machine) else "worker",
        CLUSTER_NAME: cluster_name,
    }
    machine_of = {MACHINE_NAME: name, MACHINE_NAMESPACE: metadata["namespace"]}
    labels = {**(outer.get("labels") or {}), **ours}
    spec["template"] = {
        "metadata": {
            "labels": {**(outer.get("labels") or {}), **(inner_metadata.get("labels") or {}), **ours, **machine_of},
            # Both places are in use: CAPK reads the machine's, people who write KubeVirt manifests use the instance's.
            "annotations": {LOGICAL_SWITCH: subnet, **(outer.get("annotations") or {}), **(inner_metadata.get("annotations") or {})},
        },
        "spec": _with_user_data(inner.get("spec") or {}, user_data),
    }
    if not spec.get("runStrategy") and spec.get("running") is None:
        spec["runStrategy"] = "Always"
    _prefix_data_volumes(spec, name)
    return {
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**labels, **machine_of},
            "annotations": dict(outer.get("annotations") or {}),
            "ownerReferences": [owner_reference(kubevirt_machine)],
        },
        "spec": spec,
    }


def plan_addresses(name: str, address: str) -> list[JsonObject]:
    """`status.addresses` as CAPK writes them."""
    return [
        {"type": "Hostname", "address": name},
        {"type": "InternalIP", "address": address},
        {"type": "ExternalIP", "address": address},
        {"type": "InternalDNS", "address": name},
    ]


def _with_user_data(spec: JsonObject, secret: str) -> JsonObject:
    volumes = [volume for volume in spec.get("volumes") or [] if volume["name"] != CLOUD_INIT_VOLUME]
    spec["volumes"] = [*volumes, {"name": CLOUD_INIT_VOLUME, "cloudInitConfigDrive": {"secretRef": {"name": secret}}}]
    if spec.get("domain") is None:
        spec["domain"] = {}
    if spec["domain"].get("devices") is None:
        spec["domain"]["devices"] = {}
    devices = spec["domain"]["devices"]
    disks = [disk for disk in devices.get("disks") or [] if disk["name"] != CLOUD_INIT_VOLUME]
    devices["disks"] = [*disks, {"name": CLOUD_INIT_VOLUME, "disk": {"bus": "virtio"}}]
    return spec


def _prefix_data_volumes(spec: JsonObject, name: str) -> None:
    """Every machine of a template gets DataVolumes of its own: their names begin with the machine's."""
    renamed: dict[str, str] = {}
    for data_volume in spec.get("dataVolumeTemplates") or []:
        old = data_volume["metadata"]["name"]
        renamed[old] = data_volume["metadata"]["name"] = f"{name}-{old}"
    for volume in spec["template"]["spec"]["volumes"]:
        reference = volume.get("dataVolume")
        if reference and reference.get("name") in renamed:
            reference["name"] = renamed[reference["name"]]
