"""Whether a disk can come while its machine runs: asked before anybody is promised one. Pure."""

from __future__ import annotations

from pathlib import Path

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.host.qemu.drives import drive_devices, drive_nodes
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles, plan_drives
from pilvi.providers.kubevirt.machines.volumes import VolumeDisk

__all__ = ["HOT_BUSES", "check_pluggable"]

HOT_BUSES = ("scsi", "virtio")
_NOWHERE = Path("/")


def check_pluggable(disk: JsonObject) -> None:
    """Whether a machine can be given this entry of `domain.devices.disks` for the disk of a claim. Raises UserError, saying why not."""
    instance = {"domain": {"devices": {"disks": [disk]}}}
    (drive,) = plan_drives(instance, (VolumeDisk(disk["name"], _NOWHERE, 0),), MachineFiles(_NOWHERE))
    if drive.kind == "disk" and drive.bus not in HOT_BUSES:
        raise UserError(f"disk {drive.name}: bus {drive.bus} takes no disks while the machine runs", hint="write bus: scsi or virtio")
    if drive.kind != "disk":
        raise UserError(f"disk {drive.name}: a {drive.kind} cannot come while the machine runs", hint="write disk: {bus: scsi}")
    drive_devices(drive, 0, None)
    drive_nodes(drive, lambda _layer, _writable: "")
