"""The drives of a machine: what stands behind each volume, joined with how `domain.devices.disks` shows it to the guest. Pure.

Defaults are KubeVirt's (pkg/defaults): a disk without a bus is SATA, a volume without a disk gets one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilvi.api.kubevirt.disks import VOLUME_NAME
from pilvi.api.resource import JsonObject
from pilvi.errors import Bug, UserError
from pilvi.host.qemu.spec import Drive, Layer
from pilvi.providers.kubevirt.machines.folder import TPM, VARIABLES
from pilvi.providers.kubevirt.machines.qemu.choices import choose
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, EmptyDisk, FilesDisk, ImageDisk, MachineVolume, NodeDisk, VolumeDisk

__all__ = ["MachineFiles", "plan_drives"]

_CACHES = ("none", "writethrough", "writeback")
_IO: dict[str, str | None] = {"native": "native", "threads": "threads", "default": None}
# KubeVirt's word -> QEMU's.
_ERRORS = {"stop": "stop", "report": "report", "ignore": "ignore", "enospace": "enospc"}
_BUSES = ("virtio", "scsi", "sata", "usb")


@dataclass(frozen=True)
class MachineFiles:
    """Where the files of one machine's own are, below `folder`; in `kept` is what outlives it, if there is such a place."""

    folder: Path
    kept: Path | None = None

    @property
    def disks(self) -> Path:
        """The folder of its disks, which only machines under QEMU have."""
        return self.folder / "disks"

    def layer(self, volume: str) -> Path:
        """What the machine writes over a shared image, or an empty disk. Raises UserError for a name that is none, as the next two do."""
        return self._disk(volume, "qcow2")

    def seed(self, volume: str) -> Path:
        """A read-only disk that is made for it."""
        return self._disk(volume, "iso")

    def base(self, volume: str) -> Path:
        """The image below that layer: a link to it, so that the image stays for as long as the machine does."""
        return self._disk(volume, "base")

    def _disk(self, volume: str, ending: str) -> Path:
        # Refused by the policies already, but here it would lead out of the folder, as root.
        if re.fullmatch(VOLUME_NAME, volume) is None:
            raise UserError(f"spec.volumes: {volume!r} is no name of a volume", hint="write small letters, digits and dashes")
        return self.disks / f"{volume}.{ending}"

    @property
    def kernel(self) -> Path:
        """The kernel that it boots, a link as well."""
        return self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        """The initrd of that kernel."""
        return self.folder / "initrd"

    def variables(self, *, persistent: bool) -> Path:
        """The variables of its UEFI firmware."""
        return self._state(persistent) / VARIABLES

    def tpm(self, *, persistent: bool) -> Path:
        """The secrets of its TPM."""
        return self._state(persistent) / TPM

    def _state(self, persistent: bool) -> Path:
        return self.kept if persistent and self.kept is not None else self.folder

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
    threads = bool((instance.get("domain") or {}).get("ioThreadsPolicy"))
    return tuple(_drive(shown.get(name) or {"name": name}, behind[name], files, threads=threads) for name in ordered)


def _drive(disk: JsonObject, volume: MachineVolume, files: MachineFiles, *, threads: bool) -> Drive:
    kind, target = _target(disk)
    path = f"spec.domain.devices.disks[{disk['name']}]"
    bus: Any = choose(target.get("bus"), _BUSES, f"{path}.{kind}.bus", "scsi" if kind == "lun" else "sata")
    if kind == "lun":
        if bus != "scsi":
            raise UserError(f"{path}.lun.bus is {bus!r}", hint="a lun is on bus scsi")
        kind = "disk"  # volumes are files: QEMU itself answers the guest's SCSI commands
    layers = _layers(volume, files)
    if isinstance(volume, CloudInitDisk | FilesDisk) and bus == "sata":
        kind = "cdrom"  # SATA has no disk that cannot be written
    read_only = kind == "cdrom" or bool(target.get("readonly")) or isinstance(volume, CloudInitDisk | FilesDisk)
    read_only = read_only or (isinstance(volume, VolumeDisk) and volume.read_only)
    options: dict[str, Any] = {}
    custom = (disk.get("blockSize") or {}).get("custom") or {}
    if custom.get("logical") or custom.get("physical"):
        options["block_sizes"] = (int(custom.get("logical") or 512), int(custom.get("physical") or custom.get("logical") or 512))
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
        cache=choose(disk.get("cache"), _CACHES, f"{path}.cache", "none"),
        io=_IO[choose(disk.get("io"), _IO, f"{path}.io", "default")],  # type: ignore[arg-type]
        on_error=_ERRORS[choose(disk.get("errorPolicy"), _ERRORS, f"{path}.errorPolicy", "stop")],  # type: ignore[arg-type]
        discard_granularity=custom.get("discardGranularity"),
        iothread=bool(disk.get("dedicatedIOThread")) or (threads and bus == "virtio"),
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
            return (Layer(path=files.layer(volume.name), format="qcow2"), Layer(path=files.base(volume.name), format=volume.format))
        case VolumeDisk(ephemeral=True):
            return (Layer(path=files.layer(volume.name), format="qcow2"), Layer(path=volume.path))
        case VolumeDisk():
            return (Layer(path=volume.path),)
        case EmptyDisk():
            return (Layer(path=files.layer(volume.name), format="qcow2"),)
        case CloudInitDisk() | FilesDisk():
            return (Layer(path=files.seed(volume.name)),)
        case NodeDisk():
            raise Bug(f"volume {volume.name}: the disk of the node image is put in its place before drives are planned")
