"""From a domain to the words that QEMU is started with: what stands in a manifest -> what has to stand on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import UserError
from pilvi.host.qemu.unit import qemu_unit
from pilvi.providers.kubevirt.machines.qemu.offer import HostOffer
from pilvi.providers.kubevirt.machines.volumes import BootFiles, EmptyDisk, ImageDisk, MachineVolume
from pilvi.providers.sizing import find_hugepage_bytes
from tests.unit.providers.kubevirt.test_qemu_machine import CODE, IMAGE, SECURE, plan

KVM = HostOffer("kvm", "it works", "pc-q35-7.2", kvm_group=104, uefi=CODE, uefi_secure=SECURE)
TCG = HostOffer("tcg", "no /dev/kvm", "pc-q35-7.2", uefi=CODE, uefi_secure=SECURE)


def words(offer: HostOffer, *volumes: MachineVolume, **domain: Any) -> list[str]:
    """The command line, each option with its value as one text."""
    argv = qemu_unit(plan(offer, volumes or (IMAGE,), **domain)).argv
    return [f"{option} {value}" for option, value in zip(argv, (*argv[1:], ""), strict=True)]


def hyperv(**features: Any) -> dict[str, Any]:
    return {"features": {"hyperv": features}}


def timer(**timers: Any) -> dict[str, Any]:
    return {"clock": {"timer": timers}}


def devices(**devices: Any) -> dict[str, Any]:
    return {"devices": devices}


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        ({}, "-machine type=pc-q35-7.2,memory-backend=ram,"),
        ({"machine": {"type": "pc-q35-6.2"}}, "-machine type=pc-q35-6.2,"),
        ({}, "-cpu host"),
        ({"cpu": {"model": "Haswell-noTSX", "features": [{"name": "aes"}]}}, "-cpu Haswell-noTSX,aes=on"),
        ({"cpu": {"features": [{"name": "avx", "policy": "forbid"}]}}, "-cpu host,avx=off"),
        ({"features": {"pvspinlock": {"enabled": False}}}, "-cpu host,kvm-pv-unhalt=off"),
        ({"features": {"kvm": {"hidden": True}}}, "-cpu host,kvm=off"),
        (hyperv(relaxed={}, vapic={"enabled": True}, spinlocks={}), "-cpu host,hv-relaxed=on,hv-vapic=on,hv-spinlocks=4096"),
        (hyperv(relaxed={"enabled": False}, runtime={}), "-cpu host,hv-runtime=on"),
        (hyperv(synictimer={"direct": {}}), "-cpu host,hv-stimer=on,hv-vpindex=on,hv-synic=on,hv-time=on,hv-stimer-direct=on"),
        (
            hyperv(tlbflush={"direct": {}, "extended": {}}),
            "-cpu host,hv-tlbflush=on,hv-vpindex=on,hv-tlbflush-direct=on,hv-tlbflush-ext=on",
        ),
        (hyperv(vendorid={"vendorid": "KVMKVMKVM"}), "-cpu host,hv-vendor-id=KVMKVMKVM"),
        ({"features": {"hypervPassthrough": {}}}, "-cpu host,hv-passthrough=on"),
        (devices(panicDevices=[{"model": "hyperv"}]), "-cpu host,hv-crash=on"),
        (devices(panicDevices=[{}]), '"driver":"pvpanic"'),
        (devices(panicDevices=[{"model": "pvpanic"}]), '"driver":"pvpanic-pci"'),
        (timer(hpet={"present": False}), ",hpet=off"),
        (timer(kvm={"present": False}), "-cpu host,kvmclock=off"),
        (timer(hyperv={}), "-cpu host,hv-time=on"),
        (timer(rtc={"tickPolicy": "catchup"}), "-rtc base=utc,clock=host,driftfix=slew"),
        (timer(pit={"tickPolicy": "delay"}), "-global kvm-pit.lost_tick_policy=delay"),
        ({"clock": {"timezone": "Europe/Helsinki"}}, "-rtc base=localtime"),
        ({"memory": {"hugepages": {"pageSize": "2Mi"}}}, '"hugetlbsize":2097152'),
        ({"firmware": {"bootloader": {"efi": {"secureBoot": False}}}}, "pflash1=uefi-variables"),
        (
            {"firmware": {"bootloader": {"efi": {}}}, "features": {"smm": {"enabled": True}}},
            "-global driver=cfi.pflash01,property=secure,value=on",
        ),
        (devices(tpm={}), '"driver":"tpm-crb"'),
        (devices(video={"type": "virtio"}), '"driver":"virtio-vga"'),
        (devices(sound={"name": "s", "model": "ac97"}), '"driver":"AC97"'),
        (devices(watchdog={"name": "w", "i6300esb": {"action": "poweroff"}}), ",watchdog=poweroff"),
        ({"ioThreadsPolicy": "auto", **devices(disks=[{"name": "root", "disk": {"bus": "virtio"}}])}, '"qom-type":"iothread"'),
    ],
)
def test_under_kvm(domain: dict[str, Any], wanted: str) -> None:
    found = words(KVM, **domain)
    assert any(wanted in word for word in found), found


@pytest.mark.parametrize(
    ("domain", "unwanted"),
    [
        (hyperv(vpindex={}, relaxed={}), "hv-"),
        ({"features": {"hypervPassthrough": {}, "pvspinlock": {}}}, "hv-"),
        ({"features": {"pvspinlock": {}}}, "kvm-pv-unhalt"),
        (timer(pit={"tickPolicy": "delay"}), "kvm-pit"),
        (devices(tpm={"enabled": False}), "tpm"),
        ({"ioThreadsPolicy": "auto"}, "iothread"),
    ],
)
def test_without_kvm_and_without_being_asked(domain: dict[str, Any], unwanted: str) -> None:
    assert not any(unwanted in word for word in words(TCG, **domain))


@pytest.mark.parametrize(
    ("domain", "field"),
    [
        ({"machine": {"type": "pc"}}, "machine.type"),
        ({"machine": {"type": "pc-q35-7.2,firmware=/etc/shadow"}}, "machine.type"),
        ({"cpu": {"model": "host,+vmx"}}, "cpu.model"),
        ({"cpu": {"features": [{"name": "avx=on,kvm"}]}}, "cpu.features"),
        (hyperv(vendorid={"vendorid": "a,b"}), "vendorid"),
        (hyperv(vendorid={}), "vendorid"),
        (hyperv(spinlocks={"spinlocks": 5}), "spinlocks is 5"),
        (timer(rtc={"tickPolicy": "merge"}), r"rtc\.tickPolicy"),
        ({"clock": {"timezone": "Middle/Earth"}}, "timezone"),
        ({"clock": {"timezone": "../../etc/passwd"}}, "timezone"),
        ({"firmware": {"bootloader": {"efi": {"secureBoot": False}, "bios": {}}}}, "bios and efi"),
        ({"firmware": {"bootloader": {"efi": {}}}, "features": {"smm": {"enabled": False}}}, r"features\.smm"),
        (devices(video={"type": "qxl"}), r"video\.type"),
        (devices(sound={"name": "s", "model": "sb16"}), r"sound\.model"),
        (devices(watchdog={"name": "w", "i6300esb": {"action": "none,panic=exit-failure"}}), r"i6300esb\.action"),
        (devices(inputs=[{"name": "k", "type": "keyboard"}]), r"inputs\[k\]\.type"),
        (devices(inputs=[{"name": "k", "type": "tablet", "bus": "ps2"}]), r"inputs\[k\]\.bus"),
        (devices(panicDevices=[{"model": "s390"}]), "panicDevices"),
        (devices(panicDevices=[{}, {"model": "pvpanic"}]), "one of isa and pvpanic"),
        (devices(disks=[{"name": "root", "io": "uring"}]), r"disks\[root\]\.io"),
        (devices(disks=[{"name": "root", "errorPolicy": "panic"}]), r"disks\[root\]\.errorPolicy"),
        (devices(disks=[{"name": "root", "lun": {"bus": "sata"}}]), r"disks\[root\]\.lun\.bus"),
    ],
)
def test_what_qemu_has_not_is_refused_by_its_field(domain: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        plan(KVM, **domain)


def test_a_machine_without_any_disk_boots_its_kernel() -> None:

    unit = qemu_unit(plan(TCG, (), BootFiles(Path("/k"), Path("/i"), "console=ttyS0 a=b,c")))
    numbers = {file.path.name: 10 + place for place, file in enumerate(unit.descriptors) if hasattr(file, "path")}
    line = " ".join(unit.argv)
    assert f"-kernel /proc/self/fd/{numbers['kernel']} -initrd /proc/self/fd/{numbers['initrd']} -append console=ttyS0 a=b,c" in line
    assert "blockdev" not in line


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ({"guest": "1Gi"}, None),
        ({"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}}, 2 << 20),
        ({"hugepages": {"pageSize": "1Gi"}}, 1 << 30),
    ],
)
def test_huge_pages(memory: dict[str, Any], wanted: int | None) -> None:
    assert find_hugepage_bytes({"domain": {"memory": memory}}) == wanted


@pytest.mark.parametrize(
    ("memory", "field"),
    [
        ({"guest": "1Gi", "hugepages": {"pageSize": "4Ki"}}, "pageSize is 4Ki"),
        ({"guest": "1025Mi", "hugepages": {"pageSize": "2Mi"}}, "not a multiple"),
    ],
)
def test_huge_pages_that_cannot_be(memory: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        find_hugepage_bytes({"domain": {"memory": memory}})


def test_disks_in_their_order() -> None:
    volumes = (ImageDisk("root", IMAGE.path, "qcow2", 1 << 30), EmptyDisk("data", 1 << 20))
    disks = [
        {"name": "data", "lun": {}, "serial": "D1"},
        {"name": "root", "disk": {"bus": "virtio"}, "blockSize": {"custom": {"logical": 4096, "physical": 4096}}},
    ]
    found = [
        json.loads(word.removeprefix("-device ")) for word in words(TCG, *volumes, **devices(disks=disks)) if word.startswith("-device {")
    ]
    shown = {device["id"]: device for device in found if device.get("id", "").startswith("disk-")}
    assert (shown["disk-data"]["driver"], shown["disk-data"]["serial"], shown["disk-data"]["bootindex"]) == ("scsi-hd", "D1", 1)
    assert (shown["disk-root"]["driver"], shown["disk-root"]["logical_block_size"], shown["disk-root"]["bootindex"]) == (
        "virtio-blk-pci",
        4096,
        2,
    )
