"""The instancetypes and preferences that every cloud has from its first start, under the names that KubeVirt's users know.

Sizes and wishes are pilvi's own, without the fields that have no effect here. Each is created where there is none of its name, and never
changed: machines hold copies, and what a user has made of one stays. One that was deleted is back after the next start.
"""

from __future__ import annotations

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.instancetype import VirtualMachineClusterInstancetype, VirtualMachineClusterPreference
from pilvi.errors import AlreadyExists
from pilvi.kube import Client
from pilvi.lib.together import together

__all__ = ["create_missing", "instancetypes", "preferences"]

_LABEL = "instancetype.kubevirt.io"
_VENDOR = {f"{_LABEL}/vendor": "pilvi.dev"}

# Series: class, text, and sizes as name, vCPUs, memory. All of a series have one ratio of memory to vCPUs, from one vCPU on.
_SERIES = {
    "u1": (
        "general.purpose",
        "4 GiB for each vCPU, for anything",
        {
            "nano": (1, "512Mi"),
            "micro": (1, "1Gi"),
            "small": (1, "2Gi"),
            "medium": (1, "4Gi"),
            "2xmedium": (2, "4Gi"),
            "large": (2, "8Gi"),
            "xlarge": (4, "16Gi"),
            "2xlarge": (8, "32Gi"),
        },
    ),
    "o1": (
        "overcommitted",
        "as u1, but only half of the memory is reserved on the host",
        {
            "nano": (1, "512Mi"),
            "micro": (1, "1Gi"),
            "small": (1, "2Gi"),
            "medium": (1, "4Gi"),
            "large": (2, "8Gi"),
            "xlarge": (4, "16Gi"),
        },
    ),
    "cx1": (
        "compute.intensive",
        "2 GiB for each vCPU, for what calculates",
        {"medium": (1, "2Gi"), "large": (2, "4Gi"), "xlarge": (4, "8Gi"), "2xlarge": (8, "16Gi")},
    ),
    "m1": (
        "memory.intensive",
        "8 GiB for each vCPU, for what holds much in memory",
        {"medium": (1, "8Gi"), "large": (2, "16Gi"), "xlarge": (4, "32Gi")},
    ),
}
_OVERCOMMIT = {"o1": 50}

_VIRTIO: JsonObject = {"preferredDiskBus": "virtio", "preferredInterfaceModel": "virtio", "preferredRng": {}}
# Windows has drivers for these on its disc; with drivers installed, `.virtio` is faster.
_OLD_DEVICES: JsonObject = {"preferredDiskBus": "sata", "preferredInterfaceModel": "e1000e"}
_TABLET: JsonObject = {"preferredAutoattachInputDevice": True, "preferredInputBus": "usb", "preferredInputType": "tablet"}
# What Windows 11 does not install without.
_TRUSTED: JsonObject = {
    "features": {"preferredSmm": {"enabled": True}},
    "firmware": {"preferredEfi": {"secureBoot": True, "persistent": True}},
}
_TPM: JsonObject = {"preferredTPM": {"persistent": True}}
_LINUX = {
    "linux": ("Linux with virtio drivers", 1, "128Mi"),
    "linux.efi": ("Linux with virtio drivers, by UEFI", 1, "128Mi"),
    "alpine": ("Alpine Linux", 1, "128Mi"),
    "centos.stream9": ("CentOS Stream 9", 1, "1536Mi"),
    "debian": ("Debian", 1, "512Mi"),
    "fedora": ("Fedora", 1, "1Gi"),
    "opensuse.leap": ("openSUSE Leap", 1, "1Gi"),
    "rhel.9": ("Red Hat Enterprise Linux 9", 1, "1536Mi"),
    "rhel.10": ("Red Hat Enterprise Linux 10", 1, "1536Mi"),
    "ubuntu": ("Ubuntu", 1, "1Gi"),
}
_WINDOWS = {
    "windows.10": ("Windows 10", 1, "2Gi"),
    "windows.11": ("Windows 11", 2, "4Gi"),
    "windows.2k22": ("Windows Server 2022", 1, "2Gi"),
    "windows.2k25": ("Windows Server 2025", 1, "2Gi"),
}
_TRUSTED_ONLY = ("windows.11",)


async def create_missing(client: Client) -> None:
    """Create those that are not there. Raises what every request may raise."""
    await together(
        _create(client, VirtualMachineClusterInstancetype.RESOURCE, instancetypes()),
        _create(client, VirtualMachineClusterPreference.RESOURCE, preferences()),
    )


async def _create(client: Client, resource: Resource, objects: list[JsonObject]) -> None:
    there = {obj["metadata"]["name"] for obj in await client.list(resource)}

    async def create(obj: JsonObject) -> None:
        try:
            await client.create(resource, obj)
        except AlreadyExists:  # a user was quicker
            return

    await together(*(create(obj) for obj in objects if obj["metadata"]["name"] not in there))


def instancetypes() -> list[JsonObject]:
    """The VirtualMachineClusterInstancetypes."""
    return [
        _instancetype(series, name, vcpus, memory) for series, (_, _, sizes) in _SERIES.items() for name, (vcpus, memory) in sizes.items()
    ]


def _instancetype(series: str, size: str, vcpus: int, memory: str) -> JsonObject:
    group, text, _ = _SERIES[series]
    overcommit = {"overcommitPercent": _OVERCOMMIT[series]} if series in _OVERCOMMIT else {}
    labels = {
        f"{_LABEL}/class": group,
        f"{_LABEL}/cpu": str(vcpus),
        f"{_LABEL}/memory": memory,
        f"{_LABEL}/size": size,
        f"{_LABEL}/version": series[-1],
    }
    resource = VirtualMachineClusterInstancetype.RESOURCE
    return resource.new(
        Key("", f"{series}.{size}"),
        metadata={"labels": {**_VENDOR, **labels}, "annotations": {f"{_LABEL}/description": f"{vcpus} vCPU, {memory}: {text}"}},
        spec={"cpu": {"guest": vcpus}, "memory": {"guest": memory, **overcommit}},
    )


def preferences() -> list[JsonObject]:
    """The VirtualMachineClusterPreferences."""
    linux = [
        _preference(
            name, "linux", *described, _VIRTIO, {"firmware": {"preferredEfi": {"secureBoot": False}}} if name == "linux.efi" else {}
        )
        for name, described in _LINUX.items()
    ]
    windows = [
        _preference(
            f"{name}{suffix}",
            "windows",
            *described,
            {**devices, **_TABLET, **(_TPM if name in _TRUSTED_ONLY else {})},
            _TRUSTED if name in _TRUSTED_ONLY else {},
        )
        for name, described in _WINDOWS.items()
        for suffix, devices in (("", _OLD_DEVICES), (".virtio", _VIRTIO))
    ]
    return [*linux, *windows]


def _preference(name: str, os_type: str, text: str, vcpus: int, memory: str, devices: JsonObject, more: JsonObject) -> JsonObject:
    return VirtualMachineClusterPreference.RESOURCE.new(
        Key("", name),
        metadata={"labels": {**_VENDOR, f"{_LABEL}/os-type": os_type}, "annotations": {f"{_LABEL}/displayName": text}},
        spec={"devices": devices, "requirements": {"cpu": {"guest": vcpus}, "memory": {"guest": memory}}, **more},
    )
