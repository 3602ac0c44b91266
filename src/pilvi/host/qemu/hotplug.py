"""Devices that come and go while a guest runs. Each step may be called again after any failure, by this engine or the next.

What is plugged in is not in the machine's specification as it was started: whoever starts it anew says the same ports there, so that
the guest finds the device at the same address.
"""

from __future__ import annotations

import contextlib
import os
import re

from pilvi.errors import MachineRefused
from pilvi.host.network import open_tap
from pilvi.host.qemu.cards import nic_device, nic_properties
from pilvi.host.qemu.drives import drive_device, drive_devices, drive_nodes, iothread, is_writable, node_name
from pilvi.host.qemu.gear import MORE_MEMORY
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.present import list_devices
from pilvi.host.qemu.processor import processor_id
from pilvi.host.qemu.spec import Drive, Layer, Nic
from pilvi.host.qemu.translation import check_room
from pilvi.lib.disk import on_disk

__all__ = [
    "close_drive",
    "close_files",
    "offer_memory",
    "plug_drive",
    "plug_nic",
    "plug_sockets",
    "resize_drive",
    "unplug_drive",
    "unplug_nic",
]


async def plug_drive(monitor: Monitor, drive: Drive, number: int) -> None:
    """Have the guest see one more drive, at place `number` of its bus (`virtio` or `scsi`). One that is there already is fine.

    Raises OSError when a file cannot be opened, UserError for what no hardware can do, and as `Monitor.execute`. After a failure nothing
    of the drive is left, as far as QEMU answers.
    """
    devices = drive_devices(drive, number, None)
    if drive_device(drive.name) in await list_devices(monitor):
        return
    await close_drive(monitor, drive.name)
    try:
        paths: dict[Layer, str] = {}
        for place, layer in enumerate(drive.layers):
            descriptor = await on_disk(os.open, layer.path, (os.O_RDWR if is_writable(drive, place) else os.O_RDONLY) | os.O_CLOEXEC)
            try:
                paths[layer] = await monitor.add_file(descriptor, node_name(drive.name, place))
            finally:
                os.close(descriptor)
        for node in drive_nodes(drive, lambda layer, _: paths[layer]):
            await monitor.execute("blockdev-add", node)
        if drive.iothread:
            await monitor.execute("object-add", {"qom-type": "iothread", "id": iothread(drive.name)})
        for properties in devices:
            await monitor.execute("device_add", properties)
    except (MachineRefused, OSError):
        await close_drive(monitor, drive.name)
        raise


async def unplug_drive(monitor: Monitor, drive: str, *, timeout_s: float = 30.0) -> None:
    """Take a drive from the guest; returns when QEMU has closed its files. One that is not there is fine.

    Raises as `Monitor.remove_device`.
    """
    await monitor.remove_device(drive_device(drive), timeout_s=timeout_s)
    await close_drive(monitor, drive)


async def close_drive(monitor: Monitor, drive: str) -> None:
    """Have QEMU close the files of a drive whose device is gone. Raises as `Monitor.execute`."""
    await close_files(monitor, node_name(drive)[:-1])
    with contextlib.suppress(MachineRefused):  # there is none
        await monitor.execute("object-del", {"id": iothread(drive)})


async def close_files(monitor: Monitor, prefix: str) -> None:
    """As `close_drive`, when only the names of its nodes are known: those that begin so. Raises as `Monitor.execute`."""
    nodes = [node for node in await monitor.execute("query-named-block-nodes", {"flat": True}) if node["node-name"].startswith(prefix)]
    # The layers are numbered from the uppermost, which has to go before what it lies over.
    for name in sorted(node["node-name"] for node in nodes):
        await monitor.execute("blockdev-del", {"node-name": name})
    # What the machine was started with has no label.
    numbers = {int(number) for node in nodes for number in re.findall(r"/dev/fdset/(\d+)", node["file"])}
    for found in await monitor.execute("query-fdsets"):
        if found["fdset-id"] in numbers or any(str(file.get("opaque") or "").startswith(prefix) for file in found["fds"]):
            await monitor.execute("remove-fd", {"fdset-id": found["fdset-id"]})


async def plug_nic(monitor: Monitor, nic: Nic, port: int) -> None:
    """Plug a network card into a port. One that is there already is fine. Raises OSError without its tap, and as `Monitor.execute`."""
    if nic_device(nic.name) in await list_devices(monitor):
        return
    backend = f"net-{nic.name}"
    await _remove_backend(monitor, backend)
    descriptor = open_tap(nic.tap.netns, nic.tap.name)
    try:
        await monitor.add_descriptor(descriptor, backend)
    finally:
        os.close(descriptor)
    await monitor.execute("netdev_add", {"type": "tap", "id": backend, "fd": backend})
    try:
        await monitor.execute("device_add", nic_properties(nic, port))
    except MachineRefused:
        await _remove_backend(monitor, backend)
        raise


async def unplug_nic(monitor: Monitor, nic: str, *, timeout_s: float = 30.0) -> None:
    """Take a network card from the guest. One that is not there is fine. Raises as `Monitor.remove_device`."""
    await monitor.remove_device(nic_device(nic), timeout_s=timeout_s)
    await _remove_backend(monitor, f"net-{nic}")


async def plug_sockets(monitor: Monitor, sockets: int) -> None:
    """Have the guest see that many sockets of processors at least, up to its `max_sockets`.

    Raises as `Monitor.execute`, and UserError when there is no room for the code of another processor; those before it are plugged in.
    """
    for place in await monitor.execute("query-hotpluggable-cpus"):
        properties = place["props"]
        if "qom-path" not in place and properties["socket-id"] < sockets:
            id = processor_id(*(properties[part] for part in ("socket-id", "core-id", "thread-id")))
            await check_room(monitor)
            await monitor.execute("device_add", {"driver": place["type"], "id": id, **properties})


async def offer_memory(monitor: Monitor, size_bytes: int) -> None:
    """Offer the guest so much memory beyond what it was started with; what it has and shall give back it may keep for a while, or for ever.

    Raises as `Monitor.execute`; refused beyond its maximum, and by machines that have none.
    """
    await monitor.execute("qom-set", {"path": f"/machine/peripheral/{MORE_MEMORY}", "property": "requested-size", "value": size_bytes})


async def resize_drive(monitor: Monitor, drive: str, size_bytes: int) -> None:
    """Have the guest see that a drive has another size, which its file has already. Raises as `Monitor.execute`."""
    await monitor.execute("block_resize", {"node-name": node_name(drive), "size": size_bytes})


async def _remove_backend(monitor: Monitor, backend: str) -> None:
    with contextlib.suppress(MachineRefused):  # there is none
        await monitor.execute("netdev_del", {"id": backend})
    with contextlib.suppress(MachineRefused):
        await monitor.execute("closefd", {"fdname": backend})
