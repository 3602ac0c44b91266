"""From an instance's domain and volumes to what QEMU is told: input object -> expected fragment."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.qemu.installed import UefiFiles
from pilvi.host.qemu.spec import Bios, Cpu, Drive, Layer, QemuSpec, Uefi, Watchdog
from pilvi.host.qemu.unit import qemu_unit
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineSpec
from pilvi.providers.kubevirt.machines.qemu.domain import plan_machine
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles, plan_drives
from pilvi.providers.kubevirt.machines.qemu.offer import HostOffer
from pilvi.providers.kubevirt.machines.volumes import (
    BootFiles,
    CloudInitDisk,
    EmptyDisk,
    FilesDisk,
    ImageDisk,
    MachineVolume,
    VolumeDisk,
)
from pilvi.providers.sizing import Size

FILES = MachineFiles(Path("/home/machines/u"))
CODE, SECURE = (UefiFiles(Path(f"/ovmf/{name}.fd"), Path(f"/ovmf/{name}-vars.fd")) for name in ("code", "secure"))
OFFER = HostOffer("tcg", "no /dev/kvm", "pc-q35-7.2", uefi=CODE, uefi_secure=SECURE)
IMAGE = ImageDisk("root", Path("/images/a.qcow2"), "qcow2", 1 << 30)


CLOUD = Cloud(
    id="abcde",
    home=Path("/home"),
    run=Path("/run/pilvi/abcde"),
    range=IPv4Network("10.250.0.0/24"),
    transit=IPv4Network("100.64.0.0/22"),
    uid_base=5000,
    uid_count=100,
)
LEG = MachineLeg("pv-abcde-vpc-1", "sn1", "02:00:00:00:00:05", IPv4Interface("10.9.0.5/16"), IPv4Address("10.9.0.1"))


def machine_spec(
    volumes: tuple[MachineVolume, ...] = (IMAGE,), kernel: BootFiles | None = None, legs: tuple[MachineLeg, ...] = (LEG,), **domain: Any
) -> MachineSpec:
    return MachineSpec(
        uid="6a1f0000-1111-2222-3333-444444444444",
        name="web",
        namespace="shop",
        instance={"domain": domain, "volumes": []},
        size=Size(1, 2, 1, 1 << 30),
        legs=legs,
        volumes=volumes,
        user=5050,
        kernel=kernel,
    )


def plan(
    offer: HostOffer = OFFER,
    volumes: tuple[MachineVolume, ...] = (IMAGE,),
    kernel: BootFiles | None = None,
    files: MachineFiles = FILES,
    legs: tuple[MachineLeg, ...] = (LEG,),
    **domain: Any,
) -> QemuSpec:
    return plan_machine(CLOUD, machine_spec(volumes, kernel, legs, **domain), files, 5050, offer)


@pytest.mark.parametrize(
    ("domain", "field", "wanted"),
    [
        ({}, "machine", "pc-q35-7.2"),
        ({"machine": {"type": "q35"}}, "machine", "pc-q35-7.2"),
        ({"machine": {"type": "pc-q35-6.2"}}, "machine", "pc-q35-6.2"),
        ({}, "cpu", Cpu(sockets=1, cores=2)),
        ({"cpu": {"model": "host-passthrough", "maxSockets": 4}}, "cpu", Cpu(sockets=1, cores=2, max_sockets=4)),
        (
            {"cpu": {"model": "Haswell", "features": [{"name": "avx", "policy": "disable"}, {"name": "aes"}]}},
            "cpu",
            Cpu(model="Haswell", features={"avx": False, "aes": True}, sockets=1, cores=2),
        ),
        ({}, "firmware", Bios()),
        ({"firmware": {"bootloader": {"bios": {"useSerial": True}}}}, "firmware", Bios(serial=True)),
        (
            {"firmware": {"bootloader": {"efi": {"secureBoot": False}}}},
            "firmware",
            Uefi(code=CODE.code, variables=FILES.variables(persistent=False)),
        ),
        (
            {"firmware": {"bootloader": {"efi": {}}}, "features": {"smm": {}}},
            "firmware",
            Uefi(code=SECURE.code, variables=FILES.variables(persistent=False), secure_boot=True),
        ),
        ({"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"}}, "uuid", "5d307ca9-b3ef-428c-8861-06e72d69f223"),
        ({"devices": {"watchdog": {"name": "w", "i6300esb": {"action": "poweroff"}}}}, "watchdog", Watchdog(action="poweroff")),
        ({"devices": {"inputs": [{"name": "t", "type": "tablet", "bus": "virtio"}]}}, "tablets", ("virtio",)),
        ({"devices": {"autoattachInputDevice": True}}, "tablets", ("usb",)),
        ({"devices": {"autoattachSerialConsole": False}}, "serial", False),
        ({"devices": {"autoattachGraphicsDevice": False}}, "screen", False),
        ({"devices": {"autoattachMemBalloon": False}}, "balloon", False),
        ({"devices": {"rng": {}}}, "rng", True),
        ({"devices": {"sound": {"name": "s"}}}, "sound", "ich9"),
        ({"features": {"acpi": {"enabled": False}}}, "acpi", False),
        ({"features": {"kvm": {"hidden": True}}}, "hide_hypervisor", True),
        ({"clock": {"utc": {"offsetSeconds": 3600}}}, "clock_offset_s", 3600),
        ({"rebootPolicy": "Terminate"}, "reboot", "exit"),
        (
            {"chassis": {"serial": "S1"}},
            "smbios",
            {"system": {"manufacturer": "KubeVirt", "family": "KubeVirt", "product": "None"}, "chassis": {"serial": "S1"}},
        ),
    ],
)
def test_domain(domain: dict[str, Any], field: str, wanted: object) -> None:
    machine = plan(**domain)
    assert getattr(machine, field) == wanted
    assert qemu_unit(machine).restart == "never", "QEMU can be told all of it"


def test_network_cards_are_taps_of_the_subnet() -> None:
    (card,) = plan(devices={"interfaces": [{"name": "default", "model": "e1000e", "bootOrder": 2, "acpiIndex": 7}]}).nics
    assert (card.name, card.model, card.mac, card.boot_index, card.up) == ("default", "e1000e", "02:00:00:00:00:05", 2, True)
    assert (card.tap.netns, card.tap.name[0], card.acpi_index, card.port) == ("pv-abcde-vpc-1", "m", 7, 0)


def test_each_interface_has_a_card_on_a_tap_of_its_own() -> None:
    second = MachineLeg(
        "pv-abcde-vpc-2",
        "sn2",
        "02:00:00:00:00:06",
        IPv4Interface("10.9.0.5/16"),
        IPv4Address("10.9.0.1"),
        name="second",
        provider="back.shop.ovn",
        place=2,
        is_default=False,
        is_up=False,
    )
    cards = plan(legs=(LEG, second)).nics
    assert [(card.name, card.port, card.up) for card in cards] == [("default", 0, True), ("second", 2, False)]
    assert len({card.tap.name for card in cards}) == 2
    assert all(card.tap.name.startswith(cards[0].tap.name) and len(card.tap.name) <= 15 for card in cards)


def drive(disk: dict[str, Any], volume: MachineVolume) -> Drive:
    (made,) = plan_drives({"domain": {"devices": {"disks": [disk]}}}, (volume,), FILES)
    return made


DISKS = Path("/home/machines/u/disks")


@pytest.mark.parametrize(
    ("disk", "volume", "wanted"),
    [
        (
            {"name": "root", "disk": {"bus": "virtio"}, "bootOrder": 1, "serial": "A1", "cache": "writeback", "errorPolicy": "report"},
            IMAGE,
            {
                "bus": "virtio",
                "boot_index": 1,
                "serial": "A1",
                "cache": "writeback",
                "on_error": "report",
                "layers": (Layer(path=DISKS / "root.qcow2", format="qcow2"), Layer(path=DISKS / "root.base", format="qcow2")),
            },
        ),
        ({"name": "root"}, IMAGE, {"bus": "sata", "kind": "disk", "read_only": False, "cache": "none", "on_error": "stop"}),
        (
            {"name": "data", "lun": {"bus": "scsi"}},
            VolumeDisk("data", Path("/v/d"), 1),
            {"kind": "disk", "bus": "scsi", "layers": (Layer(path=Path("/v/d")),)},
        ),
        ({"name": "data", "disk": {"readonly": True, "bus": "virtio"}}, VolumeDisk("data", Path("/v/d"), 1), {"read_only": True}),
        (
            {"name": "data", "disk": {"bus": "virtio"}},
            VolumeDisk("data", Path("/v/d"), 1, ephemeral=True),
            {"layers": (Layer(path=DISKS / "data.qcow2", format="qcow2"), Layer(path=Path("/v/d")))},
        ),
        ({"name": "e"}, EmptyDisk("e", 1), {"layers": (Layer(path=DISKS / "e.qcow2", format="qcow2"),)}),
        (
            {"name": "cd", "cdrom": {"tray": "open"}},
            IMAGE.__class__("cd", Path("/i"), "raw", 1),
            {"kind": "cdrom", "read_only": True, "tray_open": True},
        ),
        ({"name": "i"}, CloudInitDisk("i"), {"kind": "cdrom", "bus": "sata", "layers": (Layer(path=DISKS / "i.iso"),)}),
        ({"name": "i", "disk": {"bus": "virtio"}}, CloudInitDisk("i"), {"kind": "disk", "bus": "virtio", "read_only": True}),
        (
            {"name": "f", "disk": {"bus": "virtio"}},
            FilesDisk("f", "cfg", {}),
            {"read_only": True, "layers": (Layer(path=DISKS / "f.iso"),)},
        ),
        ({"name": "root", "blockSize": {"custom": {"logical": 512, "physical": 4096}}}, IMAGE, {"block_sizes": (512, 4096)}),
        (
            {"name": "root", "blockSize": {"custom": {"discardGranularity": 65536}}},
            IMAGE,
            {"block_sizes": None, "discard_granularity": 65536},
        ),
        ({"name": "root", "errorPolicy": "enospace", "io": "threads"}, IMAGE, {"on_error": "enospc", "io": "threads"}),
        ({"name": "root", "io": "default"}, IMAGE, {"io": None}),
        (
            {"name": "root", "shareable": True, "dedicatedIOThread": True, "disk": {"bus": "virtio"}},
            IMAGE,
            {"shareable": True, "iothread": True},
        ),
    ],
)
def test_drives(disk: dict[str, Any], volume: MachineVolume, wanted: dict[str, Any]) -> None:
    made = msgspec.structs.asdict(drive(disk, volume))
    assert {name: made[name] for name in wanted} == wanted


def test_a_volume_without_a_disk_gets_one_behind_the_others() -> None:
    devices = {"devices": {"disks": [{"name": "b", "disk": {}}], "filesystems": [{"name": "c"}]}}
    volumes = (EmptyDisk("a", 1), EmptyDisk("b", 1), EmptyDisk("c", 1))
    assert [made.name for made in plan_drives({"domain": devices}, volumes, FILES)] == ["b", "a"]


@pytest.mark.parametrize(
    ("domain", "volume", "words"),
    [
        ({"devices": {"disks": [{"name": "root", "disk": {"bus": "ide"}}]}}, IMAGE, r"disks\[root\]\.disk\.bus is 'ide'"),
        ({"devices": {"disks": [{"name": "root", "cache": "unsafe"}]}}, IMAGE, r"disks\[root\]\.cache"),
        ({"firmware": {"bootloader": {"efi": {}}}}, IMAGE, "needs spec.domain.features.smm"),
    ],
)
def test_what_cannot_be(domain: dict[str, Any], volume: MachineVolume, words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(volumes=(volume,), **domain)


def test_a_host_without_firmware_says_so() -> None:
    with pytest.raises(UserError, match="no UEFI firmware"):
        plan(HostOffer("tcg", "", "pc-q35-7.2"), firmware={"bootloader": {"efi": {"secureBoot": False}}})


@pytest.mark.parametrize("name", ["../../../etc/cron.d/x", "a/b", "..", "", "A", "a\n"])
def test_no_name_of_a_volume_leads_out_of_the_machines_folder(name: str) -> None:
    files = MachineFiles(Path("/machines/u"))
    for file in (files.layer, files.seed, files.base):
        with pytest.raises(UserError, match="no name of a volume"):
            file(name)
        assert file("root-0").parent == files.disks
