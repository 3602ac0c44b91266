"""A preference fills what a machine leaves open, and nothing else; what it requires is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.instancetype.expand import Chosen, expand


def applied(preference: JsonObject, instancetype: JsonObject | None = None, **spec: Any) -> JsonObject:
    template = {"metadata": {"annotations": {"note": "kept"}}, "spec": {"domain": {"devices": {}}, **spec}}
    return expand(template, Chosen(instancetype, preference))


def domain_of(preference: JsonObject, domain: JsonObject) -> JsonObject:
    found: JsonObject = applied(preference, domain={"devices": {}, **domain})["spec"]["domain"]
    return found


DEVICES: list[tuple[JsonObject, JsonObject, JsonObject]] = [
    ({"preferredRng": {}}, {}, {"rng": {}}),
    ({"preferredBlockMultiQueue": True}, {}, {"blockMultiQueue": True}),
    ({"preferredBlockMultiQueue": True}, {"blockMultiQueue": False}, {"blockMultiQueue": False}),
    ({"preferredNetworkInterfaceMultiQueue": True}, {}, {"networkInterfaceMultiqueue": True}),
    ({"preferredUseVirtioTransitional": True}, {}, {"useVirtioTransitional": True}),
    ({"preferredTPM": {"persistent": True}}, {}, {"tpm": {"persistent": True}}),
    ({"preferredTPM": {"persistent": True}}, {"tpm": {}}, {"tpm": {}}),
    ({"preferredVideoType": "bochs"}, {}, {"video": {"type": "bochs"}}),
    ({"preferredVideoType": "bochs"}, {"video": {"type": "vga"}}, {"video": {"type": "vga"}}),
    ({"preferredSoundModel": "ac97"}, {}, {}),
    ({"preferredSoundModel": "ac97"}, {"sound": {"name": "s"}}, {"sound": {"name": "s", "model": "ac97"}}),
    ({"preferredDisableHotplug": True}, {"disableHotplug": False}, {"disableHotplug": True}),
    ({"preferredAutoattachGraphicsDevice": False}, {}, {"autoattachGraphicsDevice": False}),
    ({"preferredAutoattachMemBalloon": False}, {"autoattachMemBalloon": True}, {"autoattachMemBalloon": True}),
    (
        {"preferredInputBus": "usb", "preferredInputType": "tablet"},
        {"inputs": [{"name": "t"}]},
        {"inputs": [{"name": "t", "bus": "usb", "type": "tablet"}]},
    ),
    ({"preferredInputBus": "usb"}, {"inputs": [{"name": "t", "bus": "virtio"}]}, {"inputs": [{"name": "t", "bus": "virtio"}]}),
    ({"preferredPanicDeviceModel": "isa"}, {}, {"panicDevices": [{"model": "isa"}]}),
    (
        {"preferredPanicDeviceModel": "isa"},
        {"panicDevices": [{"model": "pvpanic"}, {}]},
        {"panicDevices": [{"model": "pvpanic"}, {"model": "isa"}]},
    ),
]


@pytest.mark.parametrize(("liked", "given", "expected"), DEVICES)
def test_devices(liked: JsonObject, given: JsonObject, expected: JsonObject) -> None:
    found = domain_of({"devices": liked}, {"devices": {**given, "interfaces": [{"name": "n", "bridge": {}}]}})
    assert found["devices"] == {**expected, "interfaces": [{"name": "n", "bridge": {}}]}


DISK_PREFERENCE = {
    "preferredDiskBus": "virtio",
    "preferredCdromBus": "scsi",
    "preferredLunBus": "scsi",
    "preferredDiskCache": "none",
    "preferredDiskIO": "native",
    "preferredDiskDedicatedIoThread": True,
    "preferredDiskBlockSize": {"custom": {"logical": 4096, "physical": 4096}},
}
SIZE = {"blockSize": DISK_PREFERENCE["preferredDiskBlockSize"]}
DISKS: list[tuple[JsonObject, JsonObject]] = [
    ({}, {"disk": {"bus": "virtio"}, "cache": "none", "io": "native", "dedicatedIOThread": True, **SIZE}),
    ({"disk": {"bus": "sata"}}, {"disk": {"bus": "sata"}, "cache": "none", "io": "native", **SIZE}),
    (
        {"disk": {}, "cache": "writeback", "io": "threads", "dedicatedIOThread": False, "blockSize": {}},
        {"disk": {"bus": "virtio"}, "cache": "writeback", "io": "threads", "dedicatedIOThread": False, "blockSize": {}},
    ),
    ({"cdrom": {}}, {"cdrom": {"bus": "scsi"}}),
    ({"cdrom": {"bus": "sata"}}, {"cdrom": {"bus": "sata"}}),
    ({"lun": {}}, {"lun": {"bus": "scsi"}}),
]


@pytest.mark.parametrize(("given", "expected"), DISKS)
def test_disks(given: JsonObject, expected: JsonObject) -> None:
    found = domain_of({"devices": DISK_PREFERENCE}, {"devices": {"disks": [{"name": "root", **given}]}})
    assert found["devices"]["disks"] == [{"name": "root", **expected}]


def test_default_disks_and_interfaces_are_filled_too() -> None:
    liked = {"devices": {"preferredDiskBus": "virtio", "preferredInterfaceModel": "e1000e"}}
    spec = applied(liked, volumes=[{"name": "root", "emptyDisk": {}}])["spec"]
    assert spec["domain"]["devices"]["disks"] == [{"name": "root", "disk": {"bus": "virtio"}}]
    assert spec["domain"]["devices"]["interfaces"] == [{"name": "default", "bridge": {}, "model": "e1000e"}]
    bare = applied({"devices": {"preferredAutoattachPodInterface": False}})["spec"]
    assert "networks" not in bare


def test_the_binding_of_interfaces_in_the_pod_network() -> None:
    liked = {"devices": {"preferredInterfaceMasquerade": {}}}
    networks = [{"name": "a", "pod": {}}, {"name": "b", "multus": {"networkName": "x"}}, {"name": "c", "pod": {}}]
    devices = {"interfaces": [{"name": "a"}, {"name": "b"}, {"name": "c", "bridge": {}}]}
    found = applied(liked, domain={"devices": devices}, networks=networks)["spec"]["domain"]["devices"]
    assert found["interfaces"] == [{"name": "a", "masquerade": {}}, {"name": "b"}, {"name": "c", "bridge": {}}]


FIRMWARE: list[tuple[JsonObject, JsonObject | None, JsonObject | None]] = [
    ({"preferredEfi": {"secureBoot": True}}, None, {"efi": {"secureBoot": True}}),
    ({"preferredEfi": {"secureBoot": True}}, {"bios": {}}, {"bios": {}}),
    ({"preferredEfi": {"secureBoot": True}}, {"efi": {}}, {"efi": {}}),
    ({"preferredUseEfi": True, "preferredUseSecureBoot": False}, None, {"efi": {"secureBoot": False}}),
    ({"preferredUseSecureBoot": False}, {"efi": {}}, {"efi": {"secureBoot": False}}),
    ({"preferredUseSecureBoot": False}, {"efi": {"secureBoot": True}}, {"efi": {"secureBoot": True}}),
    ({"preferredUseEfi": True, "preferredEfi": {}, "preferredUseSecureBoot": True}, None, {"efi": {}}),
    ({"preferredUseBios": True, "preferredUseBiosSerial": True}, None, {"bios": {"useSerial": True}}),
    ({"preferredUseBios": True, "preferredEfi": {}}, None, {"bios": {}}),
    ({"preferredUseBios": True}, {"efi": {}}, {"efi": {}}),
    ({"preferredUseBiosSerial": True}, None, None),
]


@pytest.mark.parametrize(("liked", "given", "expected"), FIRMWARE)
def test_firmware(liked: JsonObject, given: JsonObject | None, expected: JsonObject | None) -> None:
    domain = {"firmware": {"bootloader": given}} if given is not None else {}
    assert (domain_of({"firmware": liked}, domain).get("firmware") or {}).get("bootloader") == expected


REST: list[tuple[JsonObject, JsonObject, str, Any]] = [
    ({"clock": {"preferredTimer": {"hpet": {"present": False}}}}, {}, "clock", {"timer": {"hpet": {"present": False}}}),
    ({"clock": {"preferredClockOffset": {"timezone": "Europe/Helsinki"}}}, {}, "clock", {"timezone": "Europe/Helsinki"}),
    ({"clock": {"preferredClockOffset": {"timezone": "x"}}}, {"clock": {"utc": {}}}, "clock", {"utc": {}}),
    (
        {"cpu": {"preferredCPUFeatures": [{"name": "vmx"}, {"name": "pcid"}]}},
        {"cpu": {"features": [{"name": "pcid", "policy": "disable"}]}},
        "cpu",
        {"features": [{"name": "pcid", "policy": "disable"}, {"name": "vmx"}]},
    ),
    ({"features": {"preferredAcpi": {"enabled": False}}}, {"features": {"acpi": {}}}, "features", {"acpi": {"enabled": False}}),
    ({"features": {"preferredSmm": {}}}, {}, "features", {"smm": {}}),
    (
        {"features": {"preferredHyperv": {"vapic": {}, "relaxed": {}}}},
        {"features": {"hyperv": {"vapic": {"enabled": False}}}},
        "features",
        {"hyperv": {"vapic": {"enabled": False}, "relaxed": {}}},
    ),
    ({"machine": {"preferredMachineType": "q35"}}, {}, "machine", {"type": "q35"}),
    ({"machine": {"preferredMachineType": "q35"}}, {"machine": {"type": "pc-q35-8.2"}}, "machine", {"type": "pc-q35-8.2"}),
    ({"machine": {"preferredMachineType": "q35"}}, {"machine": {"type": ""}}, "machine", {"type": "q35"}),
]


@pytest.mark.parametrize(("liked", "given", "part", "expected"), REST)
def test_the_rest_of_the_domain(liked: JsonObject, given: JsonObject, part: str, expected: Any) -> None:
    assert domain_of(liked, given)[part] == expected


def test_what_is_beside_the_domain() -> None:
    liked = {
        "annotations": {"note": "new", "other": "new"},
        "preferredSubdomain": "sub",
        "preferredTerminationGracePeriodSeconds": 0,
        "preferredArchitecture": "amd64",
    }
    expanded = applied(liked)
    assert expanded["metadata"]["annotations"] == {"note": "kept", "other": "new"}
    spec = expanded["spec"]
    assert (spec["subdomain"], spec["terminationGracePeriodSeconds"], spec["architecture"]) == ("sub", 0, "amd64")
    assert applied(liked, terminationGracePeriodSeconds=5)["spec"]["terminationGracePeriodSeconds"] == 5


def requires(cpu: int | None = None, memory: str | None = None, topology: str | None = None, **more: Any) -> JsonObject:
    asked: JsonObject = {}
    if cpu:
        asked["cpu"] = {"guest": cpu}
    if memory:
        asked["memory"] = {"guest": memory}
    liked: JsonObject = {"requirements": {**asked, **more}}
    return {**liked, "cpu": {"preferredCPUTopology": topology}} if topology else liked


SMALL: JsonObject = {"cpu": {"guest": 2}, "memory": {"guest": "2Gi"}}
GIVEN: JsonObject = {"domain": {"cpu": {"cores": 2, "threads": 2}, "memory": {"guest": "1Gi"}}}

MISSING: list[tuple[JsonObject, JsonObject | None, JsonObject, str]] = [
    (requires(cpu=4), SMALL, {}, "insufficient CPU resources of 2 vCPU provided by instance type, preference requires 4 vCPU"),
    (requires(memory="4Gi"), SMALL, {}, "insufficient Memory resources of 2Gi provided by instance type, preference requires 4Gi"),
    (requires(cpu=2), None, GIVEN, "of 1 vCPU provided by VirtualMachine, preference requires 2 vCPU provided as sockets"),
    (requires(cpu=3, topology="cores"), None, GIVEN, "of 2 vCPU provided by VirtualMachine, preference requires 3 vCPU provided as cores"),
    (requires(cpu=5, topology="any"), None, GIVEN, "requires 5 vCPU provided as cores and sockets and threads"),
    (requires(cpu=3, topology="spread"), None, GIVEN, "of 2 vCPU provided by VirtualMachine, preference requires 3 vCPU provided as soc"),
    (requires(memory="2Gi"), None, GIVEN, "insufficient Memory resources of 1Gi provided by VirtualMachine, preference requires 2Gi"),
    (requires(architecture="arm64"), SMALL, {}, "preference requires architecture arm64 but amd64 is being requested"),
]


@pytest.mark.parametrize(("preference", "instancetype", "spec", "words"), MISSING)
def test_a_machine_that_is_less_than_required(
    preference: JsonObject, instancetype: JsonObject | None, spec: JsonObject, words: str
) -> None:
    with pytest.raises(UserError) as refused:
        applied(preference, instancetype, **spec)
    assert str(refused.value).startswith("failure checking preference requirements: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("preference", "instancetype", "spec"),
    [
        (requires(cpu=2, memory="2Gi", architecture="amd64"), SMALL, {}),
        (requires(cpu=2, memory="1Gi", topology="cores"), None, GIVEN),
        (requires(cpu=4, topology="any"), None, GIVEN),
        (requires(), None, {}),
    ],
)
def test_a_machine_that_is_what_is_required(preference: JsonObject, instancetype: JsonObject | None, spec: JsonObject) -> None:
    applied(preference, instancetype, **spec)
