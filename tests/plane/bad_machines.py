"""Machines whose volumes and disks make no sense, with words of the refusal, and some that only look odd. By their instance's spec."""

from __future__ import annotations

from typing import Any

__all__ = ["BAD", "ODD"]

IMAGE = {"containerDisk": {"image": "quay.io/containerdisks/debian:12"}}
A, B = {"name": "a", **IMAGE}, {"name": "b", **IMAGE}
SIZE = {"memory": {"guest": "1Gi"}}
NETWORKS = [{"name": "n", "pod": {}}]
KEY = {"source": {"secret": {"secretName": "x"}}, "propagationMethod": {"noCloud": {}}}


def disks(*shown: dict[str, Any], volumes: tuple[dict[str, Any], ...] = (A, B), **spec: Any) -> dict[str, Any]:
    return {"domain": {**SIZE, "devices": {"disks": [*shown]}}, "volumes": [*volumes], **spec}


def volumes(*given: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return disks(volumes=given, **spec)


def card(**interface: Any) -> dict[str, Any]:
    devices = {"interfaces": [{"name": "n", **interface}], "disks": [{"name": "a", "bootOrder": 1}]}
    return {"domain": {**SIZE, "devices": devices}, "networks": NETWORKS, "volumes": [A]}


def resources(requests: dict[str, str] | None = None, **limits: str) -> dict[str, Any]:
    return {"domain": {**SIZE, "devices": {}, "resources": {"requests": requests or {}, "limits": limits}}}


def claim(name: str, **source: Any) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": "data", **source}}


def cloud_init(name: str = "c", field: str = "cloudInitNoCloud", **given: Any) -> dict[str, Any]:
    return {"name": name, field: given}


BAD: list[tuple[dict[str, Any], list[str]]] = [
    (disks({"name": "a", "bootOrder": 1}, {"name": "b", "bootOrder": 1}), ["bootOrder 1", "a number of its own"]),
    (card(bridge={}, bootOrder=1), ["bootOrder 1"]),
    (disks({"name": "a", "bootOrder": 0}), ["begins with 1"]),
    (disks({"name": "a"}, {"name": "c"}), ["no volume is called c", "spec.template.spec.volumes"]),
    (disks({"name": "a"}, {"name": "a"}), ["two show the volume a"]),
    (disks({"name": "a", "disk": {}, "cdrom": {}}), ["one of disk, cdrom and lun"]),
    (disks({"name": "a", "disk": {"bus": "ide"}}), ["virtio, scsi, sata or usb, not ide"]),
    (disks({"name": "a", "cdrom": {"bus": "virtio"}}), ["sata, scsi or usb, not virtio"]),
    (disks({"name": "a", "lun": {"bus": "sata"}}), ["bus of a lun is scsi, not sata"]),
    (disks({"name": "a", "cache": "fast"}), ["cache is none, writethrough or writeback, not fast"]),
    (disks({"name": "a", "io": "fast"}), ["io is native, threads or default"]),
    (disks({"name": "a", "errorPolicy": "retry"}), ["errorPolicy is stop"]),
    (disks({"name": "a", "serial": "a,b"}), ["serial has letters"]),
    (disks({"name": "a", "blockSize": {"custom": {"logical": 4096, "physical": 512}}}), ["logical is not more than physical"]),
    (disks({"name": "a", "blockSize": {"custom": {"logical": 513, "physical": 1024}}}), ["powers of two"]),
    (volumes(A, A), ["two are called a"]),
    (volumes({"name": "../../a", **IMAGE}), ["which these are not: ../../a"]),
    (volumes({"name": "", **IMAGE}), ["small letters"]),
    (volumes({"name": "a"}), ["what is behind it", "look at a"]),
    (volumes({**A, "emptyDisk": {"capacity": "1Gi"}}), ["in one way", "look at a"]),
    (volumes(claim("a"), claim("b")), ["two volumes write to the claim data"]),
    (volumes(claim("a"), {"name": "b", "dataVolume": {"name": "data"}}), ["two volumes write to the claim data"]),
    (volumes({"name": "a", "containerDisk": {"image": ""}}), ["has no name"]),
    (volumes({"name": "a", "persistentVolumeClaim": {"claimName": ""}}), ["has no name"]),
    (volumes({"name": "a", "emptyDisk": {"capacity": "-1Gi"}}), ["positive quantity"]),
    (volumes(cloud_init("a", userData="x"), cloud_init("b", "cloudInitConfigDrive", userData="x")), ["one cloud-init volume, not 2"]),
    (volumes(cloud_init(userData="x", secretRef={"name": "y"})), ["only one of userData, userDataBase64 and secretRef"]),
    (volumes(cloud_init(networkData="x", networkDataBase64="eA==")), ["only one of networkData"]),
    (volumes(A, accessCredentials=[{"sshPublicKey": KEY}]), ["into the volume cloudInitNoCloud, and there is none"]),
    (card(bridge={}, masquerade={}), ["attached in one way"]),
    (resources({"memory": "4Gi"}, memory="2Gi"), ["requests.memory is more than limits.memory"]),
    (resources({"cpu": "4"}, cpu="500m"), ["requests.cpu is more than limits.cpu"]),
    (resources(memory="512Mi"), ["memory.guest is more than resources.limits.memory"]),
    ({"domain": {**SIZE, "devices": {}, "firmware": {"uuid": "xx"}}}, ["firmware.uuid is no UUID"]),
    ({"hostname": "a.b"}, ["hostname", "without dots"]),
    ({"startStrategy": "Later"}, ["startStrategy is Paused"]),
    ({"domain": {**SIZE, "devices": {}, "ioThreadsPolicy": "many"}}, ["shared, auto or supplementalPool"]),
    ({"readinessProbe": {"periodSeconds": 3}}, ["readinessProbe asks in one way"]),
    ({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}, ["livenessProbe asks in one way"]),
]
ODD: list[dict[str, Any]] = [
    volumes(A, B),
    disks({"name": "b", "bootOrder": 2, "cdrom": {"bus": "scsi"}}, {"name": "a", "bootOrder": 1, "lun": {}, "serial": "a_b-1.2"}),
    volumes(claim("a", readOnly=True), {"name": "b", "ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}}, claim("c")),
    volumes(cloud_init(userData="", secretRef={"name": "x"}, networkData="y"), accessCredentials=[{"sshPublicKey": KEY}]),
    disks(
        {"name": "a", "blockSize": {"custom": {"logical": 512, "physical": 4096}}},
        {"name": "b", "blockSize": {"custom": {"logical": 4096}}},
    ),
    resources({"cpu": "500m", "memory": "1Gi"}, cpu="1", memory="1024Mi"),
    card(masquerade={}, bootOrder=2),
    {"hostname": "", "startStrategy": "Paused", "readinessProbe": {"guestAgentPing": {}}},
]
