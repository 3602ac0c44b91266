"""What a running machine has now, as its QEMU says: what comes and goes is planned from this, and from nothing that was remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilvi.host.qemu.gear import MORE_MEMORY
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.tracking import promised_bytes

__all__ = ["Present", "list_devices", "look"]


@dataclass(frozen=True)
class Present:
    """`devices` are ids, `nodes` maps each block node to its size in bytes as the guest sees it, `files` are the labels of files.

    `sockets` have all their processors. `memory_bytes` is what the guest was started with, `more_bytes` what it has taken of the memory
    that was offered while it ran, `offered_bytes` how much that was; None when the machine cannot be given any. `links` says of the network
    cards whose cable somebody is known to have moved whether it is plugged in; `look` cannot know.
    """

    devices: frozenset[str] = frozenset()
    nodes: Mapping[str, int] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    sockets: int = 1
    memory_bytes: int = 0
    more_bytes: int = 0
    offered_bytes: int | None = None
    links: Mapping[str, bool] = field(default_factory=dict)


async def list_devices(monitor: Monitor) -> frozenset[str]:
    """Ids of the devices that the machine has. Raises as `Monitor.execute`."""
    return frozenset(found["name"] for found in await monitor.execute("qom-list", {"path": "/machine/peripheral"}))


async def look(monitor: Monitor) -> Present:
    """Ask for all of it. Raises as `Monitor.execute`."""
    nodes = await monitor.execute("query-named-block-nodes", {"flat": True})
    sets = await monitor.execute("query-fdsets")
    places = await monitor.execute("query-hotpluggable-cpus")
    memory = await monitor.execute("query-memory-size-summary")
    more = [found["data"] for found in await monitor.execute("query-memory-devices") if found["data"].get("id") == MORE_MEMORY]
    missing = {place["props"]["socket-id"] for place in places if "qom-path" not in place}
    return Present(
        devices=await list_devices(monitor),
        nodes={node["node-name"]: node["image"]["virtual-size"] for node in nodes},
        files=frozenset(file["opaque"] for files in sets for file in files["fds"] if file.get("opaque")),
        sockets=len({place["props"]["socket-id"] for place in places} - missing),
        memory_bytes=promised_bytes(memory["base-memory"]),
        more_bytes=more[0]["size"] if more else 0,
        offered_bytes=more[0]["requested-size"] if more else None,
    )
