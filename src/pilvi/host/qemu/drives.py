"""Disks: the nodes that QEMU reads and writes, and the devices that show them to the guest. Pure.

Nodes and devices are values that both the command line and QMP (`blockdev-add`, `device_add`) take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pilvi.errors import Bug, UserError
from pilvi.host.qemu.descriptors import Descriptors
from pilvi.host.qemu.ports import DISK_PORTS, SLOTS, assign_ports, disk_port
from pilvi.host.qemu.spec import Drive, Layer, QemuSpec
from pilvi.host.qemu.words import Words, device, given, json_option
from pilvi.host.units import OpenFile
from pilvi.lib.hashing import short_hash

__all__ = ["ROOM", "drive_device", "drive_devices", "drive_nodes", "drive_words", "find_drive", "iothread", "is_writable", "node_name"]

Properties = dict[str, Any]

_SATA_PORTS, _SATA_CONTROLLERS = 6, 3
_PLACES = {
    "virtio": (DISK_PORTS, "disks on bus virtio", "put further disks on bus scsi"),
    "scsi": (256, "disks on bus scsi", "remove some"),
    "sata": (_SATA_PORTS * _SATA_CONTROLLERS, "disks on bus sata", "put further disks on bus scsi"),
    "usb": (15, "disks on bus usb", "put further disks on bus scsi"),
}
ROOM = {bus: count for bus, (count, _, _) in _PLACES.items()}
"""How many disks each bus takes."""
# Longer ones the hardware cuts off, and two disks would look the same.
_LONGEST_SERIAL = {"virtio": 20, "sata": 20, "scsi": 36, "usb": 36}
# What becomes of errors in writing and in reading.
_ON_ERROR = {"stop": ("stop", "stop"), "report": ("report", "report"), "ignore": ("ignore", "ignore"), "enospc": ("enospc", "report")}


def node_name(drive: str, layer: int = 0) -> str:
    """The node of a layer; QEMU takes 31 characters at most, so names of drives are hashed."""
    return f"d{short_hash(drive)}-{layer}"


def drive_device(drive: str) -> str:
    """The id of the device that shows a drive to the guest."""
    return f"disk-{drive}"


def iothread(drive: str) -> str:
    """The id of the thread that answers that drive alone."""
    return f"io-{drive}"


def find_drive(spec: QemuSpec, node: str) -> Drive | None:
    """The drive that a node belongs to, as events of QEMU name it."""
    return next((drive for drive in spec.drives if node.startswith(node_name(drive.name)[:-1])), None)


def is_writable(drive: Drive, layer: int) -> bool:
    """Only the uppermost layer is ever written."""
    return layer == 0 and not drive.read_only and drive.kind != "cdrom"


def drive_words(spec: QemuSpec, descriptors: Descriptors) -> Iterator[Words]:
    """All drives of a machine, with the controllers that they need."""
    numbers = _assign(spec.drives)
    controllers = {numbers[drive.name] // _SATA_PORTS for drive in spec.drives if drive.bus == "sata"}
    for controller in sorted(controllers - {0}):
        yield device("ich9-ahci", id=f"sata{controller}", bus="pcie.0", addr=SLOTS[f"sata{controller}"])
    order = _boot_order(spec)
    for drive in spec.drives:

        def open_layer(layer: Layer, writable: bool) -> str:
            return descriptors.path(OpenFile(path=layer.path, writable=writable))

        for node in drive_nodes(drive, open_layer):
            yield json_option("-blockdev", node)
        if drive.iothread:
            yield json_option("-object", {"qom-type": "iothread", "id": iothread(drive.name)})
        for properties in drive_devices(drive, numbers[drive.name], order.get(drive.name)):
            yield json_option("-device", properties)


def drive_nodes(drive: Drive, open_layer: Callable[[Layer, bool], str]) -> list[Properties]:
    """The nodes of a drive's layers, the lowest first; `open_layer(layer, writable)` gives the path that QEMU opens.

    A layer's format is said, and what it lies over is said: of what an image itself tells about that nothing is believed.
    """
    if drive.tray_open:
        return []
    if any(layer.format == "raw" for layer in drive.layers[:-1]):
        raise Bug(f"drive {drive.name}: a raw layer cannot lie over another one")
    if drive.io == "native" and drive.cache != "none":
        raise UserError(f"disk {drive.name}: io native needs cache none", hint="set cache: none, or io: threads")
    cache = {"direct": drive.cache == "none", "no-flush": False}
    nodes: list[Properties] = []
    for number, layer in enumerate(drive.layers):
        writable = is_writable(drive, number)
        common = {"read-only": not writable, "cache": cache}
        if drive.discard and writable:
            common["discard"] = "unmap"
        protocol = given(
            driver="host_device" if layer.device else "file", filename=open_layer(layer, writable), aio=drive.io or "threads", **common
        )
        node: Properties = {"driver": layer.format, "node-name": node_name(drive.name, number), "file": protocol, **common}
        if drive.discard and writable:
            node["detect-zeroes"] = "unmap"
        if layer.format == "qcow2":
            node["backing"] = node_name(drive.name, number + 1) if number + 1 < len(drive.layers) else None
        nodes.append(node)
    return nodes[::-1]


def drive_devices(drive: Drive, number: int, boot_index: int | None) -> list[Properties]:
    """The devices of a drive; `number` is its place on its bus. Raises UserError for a combination that no hardware has."""
    _check(drive)
    is_empty = drive.tray_open or not drive.layers
    error = _ON_ERROR[drive.on_error]
    logical, physical = drive.block_sizes or (None, None)
    properties = given(
        id=drive_device(drive.name),
        drive=None if is_empty else node_name(drive.name),
        bootindex=boot_index,
        serial=drive.serial or None,
        **{"share-rw": drive.shareable or None},
    )
    if drive.kind == "lun":
        # The device behind it answers for itself: no serial number, no write cache, no error policy of QEMU's.
        return [{"driver": "scsi-block", "bus": "scsi.0", "channel": 0, "scsi-id": number, "lun": 0, **properties}]
    if not is_empty:
        # QEMU has a policy for errors only where there is something to read.
        properties |= {"werror": error[0], "rerror": error[1]}
        properties |= given(logical_block_size=logical, physical_block_size=physical, discard_granularity=drive.discard_granularity)
        if drive.kind != "cdrom":
            properties["write-cache"] = "off" if drive.cache == "writethrough" else "on"
    is_cdrom = drive.kind == "cdrom"
    match drive.bus:
        case "virtio":
            thread = iothread(drive.name) if drive.iothread else None
            return [given(driver="virtio-blk-pci", bus=disk_port(number), iothread=thread, **properties)]
        case "scsi":
            place = {"bus": "scsi.0", "channel": 0, "scsi-id": number, "lun": 0}
            return [{"driver": "scsi-cd" if is_cdrom else "scsi-hd", **place, **properties}]
        case "sata":
            controller, port = divmod(number, _SATA_PORTS)
            # The chipset's own controller calls its ports ide.0 to ide.5.
            bus = f"ide.{port}" if controller == 0 else f"sata{controller}.{port}"
            return [{"driver": "ide-cd" if is_cdrom else "ide-hd", "bus": bus, **properties}]
        case "usb" if is_cdrom:
            bot = f"bot-{drive.name}"
            return [{"driver": "usb-bot", "id": bot, "bus": "usb.0"}, {"driver": "scsi-cd", "bus": f"{bot}.0", **properties}]
        case "usb":
            return [{"driver": "usb-storage", "bus": "usb.0", **properties}]


def _assign(drives: tuple[Drive, ...]) -> dict[str, int]:
    if doubled := [name for name, count in Counter(drive.name for drive in drives).items() if count > 1]:
        raise Bug(f"two drives are called {doubled[0]}")
    numbers: dict[str, int] = {}
    for bus, (count, what, hint) in _PLACES.items():
        there = [drive for drive in drives if drive.bus == bus]
        assigned = assign_ports([drive.port for drive in there], count, what, hint)
        numbers |= zip([drive.name for drive in there], assigned, strict=True)
    return numbers


def _boot_order(spec: QemuSpec) -> dict[str, int]:
    chosen = {drive.name: drive.boot_index for drive in spec.drives if drive.boot_index is not None}
    if chosen or spec.kernel or any(nic.boot_index is not None for nic in spec.nics):
        return chosen
    return {drive.name: place for place, drive in enumerate(spec.drives, 1)}


def _check(drive: Drive) -> None:
    longest = _LONGEST_SERIAL[drive.bus]
    if len(drive.serial) > longest:
        raise UserError(
            f"disk {drive.name}: the serial number {drive.serial} is longer than the {longest} characters of bus {drive.bus}",
            hint="shorten it" if longest > 20 else "shorten it, or use bus scsi, which takes 36",
        )
    if drive.kind == "cdrom" and drive.bus == "virtio":
        raise UserError(f"disk {drive.name}: a cdrom cannot be on bus virtio", hint="use bus sata or scsi")
    if drive.kind == "lun" and (drive.bus != "scsi" or not all(layer.device for layer in drive.layers)):
        raise UserError(f"disk {drive.name}: a lun is a block device on bus scsi", hint="make it a disk")
    if drive.kind == "disk" and drive.bus == "sata" and drive.read_only:
        raise UserError(f"disk {drive.name}: SATA has no read-only disks", hint="use bus virtio or scsi, or make it a cdrom")
    if drive.iothread and drive.bus != "virtio":
        raise UserError(f"disk {drive.name}: only disks on bus virtio have a thread of their own", hint="leave dedicatedIOThread out")
