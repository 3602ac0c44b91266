"""A worker as a virtual machine: from an instance of the node image to what QEMU boots."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.node import NodeImage
from pilvi.node.reference import MANIFEST
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineSpec
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles, plan_drives
from pilvi.providers.kubevirt.machines.qemu.node import find_first_boot, find_image, with_node_disk, write_seed
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, EmptyDisk, ImageDisk, NodeDisk
from pilvi.providers.sizing import Size

ROOT = NodeDisk("root", "v1.37.2")
JOIN = CloudInitDisk("cloudinit", "ConfigDrive", b"#cloud-config\nruncmd: [kubeadm join]\n")


@pytest.fixture
def image(tmp_path: Path) -> NodeImage:
    made = NodeImage(version="v1.37.2", folder=tmp_path / "node-image-v1.37.2-aaa", pause="pause:1")
    made.folder.mkdir()
    made.disk.write_bytes(b"\0" * 4096)
    (made.folder / MANIFEST).write_text('{"version": "v1.37.2", "pause": "pause:1"}')
    return made


def worker(*disks: JsonObject, volumes: Any = (ROOT, JOIN)) -> MachineSpec:
    return MachineSpec(
        uid="6a1f0000-1111-2222-3333-444444444444",
        name="worker-1",
        namespace="shop",
        instance={"domain": {"devices": {"disks": [*disks]}}, "volumes": []},
        size=Size(1, 2, 1, 1 << 30),
        legs=(MachineLeg("pv-abcde-vpc-1", "sn1", "02:00:00:00:00:05", IPv4Interface("10.9.0.5/16"), IPv4Address("10.9.0.1")),),
        volumes=volumes,
        user=5050,
    )


@pytest.mark.parametrize("disks", [[], [{"name": "root"}], [{"name": "root", "disk": {}}], [{"name": "root", "disk": {"bus": "virtio"}}]])
def test_node_disk_is_on_virtio_and_its_user_data_on_none(disks: list[JsonObject], image: NodeImage, tmp_path: Path) -> None:
    spec = with_node_disk(worker(*disks, {"name": "cloudinit", "disk": {"bus": "virtio"}}), image)
    assert spec.volumes == (ImageDisk("root", image.disk, "raw", 4096),)
    (drive,) = plan_drives(spec.instance, spec.volumes, MachineFiles(tmp_path))
    assert (drive.bus, drive.read_only) == ("virtio", False)


def test_other_disks_stay(image: NodeImage) -> None:
    spec = with_node_disk(worker(volumes=(ROOT, JOIN, EmptyDisk("data", 1 << 20))), image)
    assert [volume.name for volume in spec.volumes] == ["root", "data"]


@pytest.mark.parametrize("disk", [{"disk": {"bus": "sata"}}, {"cdrom": {"bus": "virtio"}}, {"lun": {}}])
def test_what_the_kernel_of_the_image_does_not_see_is_refused(disk: JsonObject, image: NodeImage) -> None:
    with pytest.raises(UserError, match="virtio"):
        with_node_disk(worker({"name": "root", **disk}), image)


def test_network_data_is_refused(image: NodeImage) -> None:
    with pytest.raises(UserError, match="network data"):
        with_node_disk(worker(volumes=(ROOT, dataclasses.replace(JOIN, network_data=b"version: 2"))), image)


def test_seed_stays_as_it_was_made(image: NodeImage, tmp_path: Path) -> None:
    files = MachineFiles(tmp_path / "machine")
    write_seed(worker(), image, files)
    before = files.seed("seed").read_bytes()
    assert b"kubeadm join" in before or b"base64" in before
    assert files.seed("seed").stat().st_mode & 0o777 == 0o600
    for user_data in (None, b"no user data at all"):
        write_seed(worker(volumes=(ROOT, dataclasses.replace(JOIN, user_data=user_data))), image, files)
    assert files.seed("seed").read_bytes() == before


def test_an_image_without_a_disk_is_not_built(image: NodeImage, tmp_path: Path) -> None:
    assert find_image(worker(), tmp_path) == image
    assert find_image(worker(volumes=()), tmp_path) is None
    image.disk.unlink()
    with pytest.raises(UserError, match=r"v1\.37\.2"):
        find_image(worker(), tmp_path)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", None),
        (b"pilvi: first boot ended with exit code 0", None),
        (b"x\r\npilvi: first boot ended with exit code 0\r\n", 0),
        (b"pilvi: first boot ended with exit code 0\r\nlater\r\npilvi: first boot ended with exit code 17\n", 17),
        (b"\r\r\npilvi: first boot ended with exit code 0\r\r\n", 0),
        (b"pilvi: first boot ended with exit code 1234\n", None),
        (b"\xff" * 100_000 + b"pilvi: first boot ended with exit code 3\n", 3),
    ],
)
def test_first_boot_is_told_by_the_console(said: bytes, code: int | None, tmp_path: Path) -> None:
    files = MachineFiles(tmp_path)
    files.serial_log.write_bytes(said)
    assert find_first_boot(files) == code


def test_no_console_tells_nothing(tmp_path: Path) -> None:
    assert find_first_boot(MachineFiles(tmp_path)) is None
