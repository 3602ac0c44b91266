"""Workers of clusters as virtual machines: the node image's own disk, and a second one that says which machine it becomes.

The user data is carried out by the script that the node image is made for, as in a sandbox; no cloud-init is on the way. How that has
ended is a line on the serial console.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from pathlib import Path

import msgspec

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.host.qemu.spec import DirectKernel, Drive, Layer, QemuSpec
from pilvi.lib.files import write_atomic
from pilvi.node import SEED, NodeFacts, NodeImage, find_node_image, node_command_line, node_seed
from pilvi.providers.kubevirt.machines.backend import MachineSpec
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, ImageDisk, MachineVolume, NodeDisk

__all__ = ["find_first_boot", "find_image", "plan_node", "with_node_disk", "write_seed"]

_ENDED = re.compile(rb"pilvi: first boot ended with exit code (\d{1,3})\r*\n")
_LAST_BYTES = 64 << 10
_NOTHING_TO_DO = b"#cloud-config\n"


def find_image(spec: MachineSpec, kit: Path) -> NodeImage | None:
    """The node image that the machine runs; None when it is no node. Raises UserError when that version is not built."""
    version = next((volume.version for volume in spec.volumes if isinstance(volume, NodeDisk)), None)
    if version is None:
        return None
    image = find_node_image(version, kit)
    if image is None or not image.disk.exists():
        raise UserError(
            f"no node image for Kubernetes {version} is built here",
            hint="run `pilvi kit build`, or choose a version of `pilvi kit list`",
        )
    return image


def with_node_disk(spec: MachineSpec, image: NodeImage) -> MachineSpec:
    """The machine with the image's disk in place of its volume, and without the disk of its user data, which the seed carries.

    Raises UserError for a bus that the image's kernel does not look at, and for network data.
    """
    volumes: list[MachineVolume] = []
    instance = spec.instance
    for volume in spec.volumes:
        match volume:
            case NodeDisk():
                instance = _on_virtio(instance, volume.name)
                volumes.append(ImageDisk(volume.name, image.disk, "raw", image.disk.stat().st_size))
            case CloudInitDisk() if volume.network_data:
                raise UserError(
                    f"volume {volume.name} gives network data, and address, gateway and resolver of a node come from its Subnet",
                    hint="remove it; ask for a fixed address with annotation ovn.kubernetes.io/ip_address",
                )
            case CloudInitDisk():
                pass
            case _:
                volumes.append(volume)
    return dataclasses.replace(spec, instance=instance, volumes=tuple(volumes))


def _on_virtio(instance: JsonObject, name: str) -> JsonObject:
    """The instance with its node disk on bus virtio, where nothing else was asked for."""
    instance = copy.deepcopy(instance)
    devices = instance.setdefault("domain", {}).setdefault("devices", {})
    disks = devices.setdefault("disks", [])
    disk = next((disk for disk in disks if disk["name"] == name), None)
    if disk is None:
        disk = {"name": name}
        disks.insert(0, disk)
    kind = next((kind for kind in ("disk", "cdrom", "lun") if disk.get(kind) is not None), "disk")
    bus = (disk.get(kind) or {}).get("bus")
    if kind != "disk" or bus not in (None, "virtio"):
        raise UserError(
            f"spec.domain.devices.disks[{name}]: the node image boots from a disk on bus virtio only",
            hint="write disk: {bus: virtio}, or leave the disk out",
        )
    disk["disk"] = {**(disk.get("disk") or {}), "bus": "virtio"}
    return instance


def write_seed(spec: MachineSpec, image: NodeImage, files: MachineFiles, registry_authority: str = "") -> None:
    """Write the second disk unless it is there. Blocking; use `lib.disk`.

    What a machine was made with stays. It may hold a join token, so only root reads it. Raises UserError, naming the key, when the user
    data cannot be carried out.
    """
    path = files.seed(SEED)
    if path.exists():
        return
    seed = node_seed(_facts(spec, registry_authority), image, spec.leg.mac, spec.leg.gateway)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, seed.archive, mode=0o600)


def plan_node(machine: QemuSpec, spec: MachineSpec, image: NodeImage, files: MachineFiles) -> QemuSpec:
    """The machine with the image's kernel and its seed. Pure."""
    seed = Drive(name=SEED, serial=SEED, layers=(Layer(path=files.seed(SEED)),), read_only=True)
    kernel = DirectKernel(kernel=image.kernel, initrd=image.initrd, arguments=node_command_line(_facts(spec)))
    return msgspec.structs.replace(machine, kernel=kernel, drives=(*machine.drives, seed), rng=True)


def _facts(spec: MachineSpec, registry_authority: str = "") -> NodeFacts:
    cloud_init = next((volume for volume in spec.volumes if isinstance(volume, CloudInitDisk)), CloudInitDisk(name=""))
    return NodeFacts(
        name=spec.name,
        namespace=spec.namespace,
        uid=spec.uid,
        address=spec.leg.address,
        resolver=spec.leg.gateway,
        user_data=cloud_init.user_data or _NOTHING_TO_DO,
        meta_data=cloud_init.meta_data,
        mtu=spec.leg.mtu,
        registry_authority=registry_authority,
    )


def find_first_boot(files: MachineFiles) -> int | None:
    """How the user data has ended, as the guest told it on its console: an exit code, or None while it has not. Blocking, short."""
    try:
        with files.serial_log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST_BYTES))
            ended = _ENDED.findall(log.read(_LAST_BYTES))
    except OSError:
        return None
    return int(ended[-1]) if ended else None
