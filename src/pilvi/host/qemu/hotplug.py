"""Devices that come and go while a guest runs. Each step may be called again after any failure, by this engine or the next.

What is plugged in is not in the machine's specification as it was started: whoever starts it anew says the same ports there, so that
the guest finds the device at the same address.
"""

from __future__ import annotations

import contextlib
import os

from pilvi.errors import MachineRefused
from pilvi.host.network import open_tap
from pilvi.host.qemu.cards import nic_device, nic_properties
from pilvi.host.qemu.drives import drive_device, drive_devices, drive_nodes, iothread, is_writable, node_name
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.spec import Drive, Layer, Nic
from pilvi.lib.disk import on_disk

__all__ = ["list_devices", "plug_drive", "plug_memory", "plug_nic", "plug_sockets", "unplug_drive", "unplug_nic"]


async def list_devices(monitor: Monitor) -> set[str]:
    """Ids of the devices that the machine has. Raises as `Monitor.execute`."""
    return {found["name"] for found in await monitor.execute("qom-list", {"path": "/machine/peripheral"})}


async def plug_drive(monitor: Monitor, drive: Drive, number: int) -> None:
    """Have the guest see one more drive, at place `number` of its bus (`virtio` or `scsi`). One that is there already is fine.

    Raises OSError when a file cannot be opened, UserError for what no hardware can do, and as `Monitor.execute`. After a failure nothing
    of the drive is left, as far as QEMU answers.
    """
    devices = drive_devices(drive, number, None)
    if drive_device(drive.name) in await list_devices(monitor):
        return
    await _remove_nodes(monitor, drive)
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
        await _remove_nodes(monitor, drive)
        raise


async def unplug_drive(monitor: Monitor, drive: Drive) -> None:
    """Take a drive from the guest; returns when QEMU has closed its files. One that is not there is fine.

    Raises as `Monitor.remove_device`.
    """
    await monitor.remove_device(drive_device(drive.name))
    await _remove_nodes(monitor, drive)


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


async def unplug_nic(monitor: Monitor, nic: str) -> None:
    """Take a network card from the guest. One that is not there is fine. Raises as `Monitor.remove_device`."""
    await monitor.remove_device(nic_device(nic))
    await _remove_backend(monitor, f"net-{nic}")


async def plug_sockets(monitor: Monitor, sockets: int) -> None:
    """Have the guest see that many sockets of processors at least, up to its `max_sockets`. Raises as `Monitor.execute`."""
    for place in await monitor.execute("query-hotpluggable-cpus"):
        properties = place["props"]
        if "qom-path" not in place and properties["socket-id"] < sockets:
            id = "-".join(["cpu", *(str(properties[part]) for part in ("socket-id", "core-id", "thread-id"))])
            await monitor.execute("device_add", {"driver": place["type"], "id": id, **properties})


async def plug_memory(monitor: Monitor, size_bytes: int) -> None:
    """Have the guest see that much memory at least, in all. Raises as `Monitor.execute`; refused beyond its maximum."""
    memory = await monitor.execute("query-memory-size-summary")
    missing = size_bytes - memory["base-memory"] - memory.get("plugged-memory", 0)
    if missing <= 0:
        return
    number = len(await monitor.execute("query-memory-devices"))
    backend = f"ram{number}"
    with contextlib.suppress(MachineRefused):  # left over by an engine that was killed between the two steps
        await monitor.execute("object-del", {"id": backend})
    await monitor.execute("object-add", {"qom-type": "memory-backend-ram", "id": backend, "size": missing})
    try:
        await monitor.execute("device_add", {"driver": "pc-dimm", "id": f"dimm{number}", "memdev": backend})
    except MachineRefused:
        await monitor.execute("object-del", {"id": backend})
        raise


async def _remove_nodes(monitor: Monitor, drive: Drive) -> None:
    present = {node["node-name"] for node in await monitor.execute("query-named-block-nodes", {"flat": True})}
    for place in range(len(drive.layers)):
        name = node_name(drive.name, place)
        if name in present:
            await monitor.execute("blockdev-del", {"node-name": name})
        await monitor.remove_files(name)
    if drive.iothread:
        with contextlib.suppress(MachineRefused):  # there is none
            await monitor.execute("object-del", {"id": iothread(drive.name)})


async def _remove_backend(monitor: Monitor, backend: str) -> None:
    with contextlib.suppress(MachineRefused):  # there is none
        await monitor.execute("netdev_del", {"id": backend})
    with contextlib.suppress(MachineRefused):
        await monitor.execute("closefd", {"fdname": backend})
