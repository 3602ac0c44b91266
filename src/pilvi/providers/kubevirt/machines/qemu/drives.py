"""The drives of a machine: what stands behind each volume, joined with how `domain.devices.disks` shows it to the guest. Pure.

Defaults are KubeVirt's (pkg/defaults): a disk without a bus is SATA, a volume without a disk gets one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.host.qemu.spec import Drive, Layer
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, EmptyDisk, FilesDisk, ImageDisk, MachineVolume, NodeDisk, VolumeDisk

__all__ = ["MachineFiles", "plan_drives"]

_CACHES = ("none", "writethrough", "writeback")
_BUSES = ("virtio", "scsi", "sata", "usb")


@dataclass(frozen=True)
class MachineFiles:
    """Where the files of one machine's own are, below `folder`."""

    folder: Path

    @property
    def disks(self) -> Path:
        """The folder of its disks, which only machines under QEMU have."""
        return self.folder / "disks"

    def layer(self, volume: str) -> Path:
        """What the machine writes over a shared image, or an empty disk."""
        return self.disks / f"{volume}.qcow2"

    def seed(self, volume: str) -> Path:
        """A read-only disk that is made for it."""
        return self.disks / f"{volume}.iso"

    @property
    def variables(self) -> Path:
        """The variables of its UEFI firmware."""
        return self.folder / "uefi-variables.fd"

    @property
    def places(self) -> Path:
        """Where its disks sit on their buses."""
        return self.folder / "places.json"

    @property
    def serial_log(self) -> Path:
        """What the guest has written to its serial console."""
        return self.folder / "serial.log"


def plan_drives(instance: JsonObject, volumes: tuple[MachineVolume, ...], files: MachineFiles) -> tuple[Drive, ...]:
    """The drives, in the order of the instance's disks, then of volumes without one.

    Raises UserError for a disk that cannot be made, naming the field.
    """
    devices = (instance.get("domain") or {}).get("devices") or {}
    shown = {disk["name"]: disk for disk in devices.get("disks") or []}
    filesystems = {filesystem["name"] for filesystem in devices.get("filesystems") or []}
    behind = {volume.name: volume for volume in volumes}
    ordered = [name for name in shown if name in behind]
    ordered += [name for name in behind if name not in shown and name not in filesystems]
    return tuple(_drive(shown.get(name) or {"name": name}, behind[name], files) for name in ordered)


def _drive(disk: JsonObject, volume: MachineVolume, files: MachineFiles) -> Drive:
    kind, target = _target(disk)
    path = f"spec.domain.devices.disks[{disk['name']}]"
    bus: Any = target.get("bus") or "sata"
    if bus not in _BUSES:
        raise UserError(f"{path}: bus {bus!r} is none that a machine has", hint=f"write one of {', '.join(_BUSES)}")
    layers = _layers(volume, files)
    if isinstance(volume, CloudInitDisk | FilesDisk) and bus == "sata":
        kind = "cdrom"  # SATA has no disk that cannot be written
    read_only = kind == "cdrom" or bool(target.get("readonly")) or isinstance(volume, CloudInitDisk | FilesDisk)
    read_only = read_only or (isinstance(volume, VolumeDisk) and volume.read_only)
    options: dict[str, Any] = {}
    if disk.get("cache"):
        if disk["cache"] not in _CACHES:
            raise UserError(f"{path}.cache is {disk['cache']!r}", hint=f"write one of {', '.join(_CACHES)}")
        options["cache"] = disk["cache"]
    if disk.get("io"):
        options["io"] = disk["io"]
    if disk.get("errorPolicy"):
        options["on_error"] = disk["errorPolicy"]
    if sizes := _block_sizes(disk):
        options["block_sizes"] = sizes
    return Drive(
        name=volume.name,
        layers=layers,
        bus=bus,
        kind=kind,
        read_only=read_only,
        shareable=bool(disk.get("shareable")),
        serial=disk.get("serial") or "",
        boot_index=disk.get("bootOrder"),
        tray_open=target.get("tray") == "open",
        iothread=bool(disk.get("dedicatedIOThread")),
        **options,
    )


def _target(disk: JsonObject) -> tuple[Any, JsonObject]:
    for kind in ("cdrom", "lun", "disk"):
        if disk.get(kind) is not None:
            return kind, disk[kind]
    return "disk", {}


def _layers(volume: MachineVolume, files: MachineFiles) -> tuple[Layer, ...]:
    match volume:
        case ImageDisk():
            return (Layer(path=files.layer(volume.name), format="qcow2"), Layer(path=volume.path, format=volume.format))
        case VolumeDisk(ephemeral=True):
            return (Layer(path=files.layer(volume.name), format="qcow2"), Layer(path=volume.path))
        case VolumeDisk():
            return (Layer(path=volume.path),)
        case EmptyDisk():
            return (Layer(path=files.layer(volume.name), format="qcow2"),)
        case CloudInitDisk() | FilesDisk():
            return (Layer(path=files.seed(volume.name)),)
        case NodeDisk():
            raise UserError(
                f"volume {volume.name} is the node image, which is not built for QEMU yet",
                hint="remove the annotation pilvi.dev/machine, or set it to sandbox",
            )


def _block_sizes(disk: JsonObject) -> tuple[int, int] | None:
    custom = (disk.get("blockSize") or {}).get("custom")
    return (int(custom["logical"]), int(custom["physical"])) if custom else None
