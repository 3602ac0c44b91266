"""Whether the host runs out of memory, disk or process ids, as a kubelet tells it of its node.

Limits are absolute where the kubelet's are: the disk belongs to the host, and a share of a large one is no shortage. They lie above those
of the machines' own kubelets (`node/kubelet.py`), so that no new machine comes before these have to evict pods. Pressure begins below a
limit and ends at half as much again, so that it does not come and go with each file.

The node lifecycle controller puts a taint without effect on what runs (NoSchedule) on a Node under pressure. Machines that run stay: a
kubelet would evict, and this one does not, since a machine's end frees nothing that its pods could not free.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.virtualhost.capacity import find_limit, parse_meminfo

__all__ = ["PRESSURES", "Figures", "Room", "describe_pressure", "find_pressures", "read_figures"]

_MIB = 1024**2
MEMORY_BYTES = 100 * _MIB
DISK_BYTES = 2048 * _MIB
INODES = 20_000
PIDS = 1000
# Of what is small altogether this share counts instead.
SHARE = 0.1
RELIEF = 1.5


@dataclass(frozen=True)
class Room:
    """How much of something is left, and how much there is; `total` 0 when there is no limit."""

    available: int
    total: int


@dataclass(frozen=True)
class Figures:
    """What the host has left. Memory and disk in bytes; `disk` and `inodes` are of the file system of `home`."""

    home: Path
    memory: Room
    disk: Room
    inodes: Room
    pids: Room


def read_figures(home: Path, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Figures:
    """Read all of them; limits of the container that the cloud runs in count as the host's. Blocks. Raises OSError."""
    meminfo = parse_meminfo((proc / "meminfo").read_text())
    memory = [Room(meminfo["MemAvailable"], meminfo["MemTotal"]), *_container_memory(cgroups)]
    disk = os.statvfs(home)
    tasks = int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    limits = [limit for name in ("pid_max", "threads-max") if (limit := find_limit(proc / "sys/kernel" / name)) is not None]
    pids = [*(Room(limit - tasks, limit) for limit in limits), *_container_pids(cgroups)]
    return Figures(
        home,
        min(memory, key=lambda room: room.available),
        Room(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize),
        Room(disk.f_favail, disk.f_files),
        min(pids, key=lambda room: room.available, default=Room(0, 0)),
    )


def find_pressures(figures: Figures, before: Collection[str]) -> dict[str, str]:
    """The types of Node conditions that are True now, with their message; `before` are those that were so at the last look. Pure.

    Messages name the limit and not the figure, which would change at each look.
    """

    def is_short(kind: str, room: Room, least: int) -> bool:
        return bool(room.total) and room.available < _limit(room, least) * (RELIEF if kind in before else 1)

    found = {}
    if is_short("MemoryPressure", figures.memory, MEMORY_BYTES):
        found["MemoryPressure"] = f"less than {_mib(figures.memory, MEMORY_BYTES)} of the host's memory is left; stop machines or programs"
    for room, least, what in (
        (figures.disk, DISK_BYTES, f"{_mib(figures.disk, DISK_BYTES)} is free"),
        (figures.inodes, INODES, f"{_limit(figures.inodes, INODES)} inodes are free"),
    ):
        if is_short("DiskPressure", room, least):
            found["DiskPressure"] = f"less than {what} on the disk of {figures.home}; remove what is not needed, or enlarge it"
    if is_short("PIDPressure", figures.pids, PIDS):
        found["PIDPressure"] = f"less than {_limit(figures.pids, PIDS)} process ids of the host are left; stop machines or programs"
    return found


PRESSURES: Mapping[str, tuple[str, str, str]] = {
    "MemoryPressure": ("HostHasInsufficientMemory", "HostHasSufficientMemory", "the host has memory available"),
    "DiskPressure": ("HostHasDiskPressure", "HostHasNoDiskPressure", "the host has disk space available"),
    "PIDPressure": ("HostHasInsufficientPID", "HostHasSufficientPID", "the host has process ids available"),
}
"""Reason under pressure, reason and message without it, by type of condition."""


def describe_pressure(node: JsonObject | None) -> str:
    """What a Node's conditions say of its pressure; empty when there is none."""
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    return "; ".join(entry["message"] for entry in conditions if entry["type"] in PRESSURES and entry["status"] == "True")


def _limit(room: Room, least: int) -> int:
    return min(least, int(room.total * SHARE))


def _mib(room: Room, least: int) -> str:
    return f"{_limit(room, least) // _MIB} MiB"


def _container_memory(cgroups: Path) -> list[Room]:
    """As the kubelet counts: page cache that nobody has used lately is as good as free."""
    found = []
    for limit, usage, stat, name in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        most, used = find_limit(cgroups / limit), find_limit(cgroups / usage)
        if most is not None and used is not None:
            cache = dict(line.split() for line in (cgroups / stat).read_text().splitlines()).get(name, "0")
            found.append(Room(most - used + int(cache), most))
    return found


def _container_pids(cgroups: Path) -> list[Room]:
    found = []
    for folder in (cgroups, cgroups / "pids"):
        most, used = find_limit(folder / "pids.max"), find_limit(folder / "pids.current")
        if most is not None and used is not None:
            found.append(Room(most - used, most))
    return found
