"""What the host has, and what of it machines may use. Pure but for reading /proc and the engine's cgroup."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilvi.lib.quantity import format_bytes, format_milli

__all__ = ["Capacity", "allocatable", "as_resources", "find_limit", "parse_meminfo", "read_capacity", "share"]

_MIB = 1024 * 1024
# Measured proportional memory on the reference machine (docs/explanation/performance.md): etcd, API server, controller manager and
# scheduler; the platform has Cluster API's two managers and the engine besides.
PLATFORM_BYTES = 768 * _MIB
TENANT_PLANE_BYTES = 450 * _MIB
PLATFORM_MILLI = 250
TENANT_PLANE_MILLI = 50
# However full the host is, a number below this tells the scheduler nothing more.
_LEAST_MILLI = 100
_LEAST_BYTES = 0
MAX_MACHINES = 250


@dataclass(frozen=True)
class Capacity:
    """CPU in thousandths, memory in bytes. `huge` says how many bytes of that are in huge pages, by the size of a page."""

    cpu_milli: int
    memory_bytes: int
    huge: tuple[tuple[int, int], ...] = ()


def read_capacity(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup"), pages: Path = Path("/sys/kernel/mm/hugepages")
) -> Capacity:
    """CPUs and memory of the host, or of the container that the cloud runs in when that has a memory limit. Raises OSError."""
    cpus = sum(1 for line in (proc / "cpuinfo").read_text().splitlines() if line.startswith("processor"))
    memory = parse_meminfo((proc / "meminfo").read_text())["MemTotal"]
    limits = [limit for path in ("memory.max", "memory/memory.limit_in_bytes") if (limit := find_limit(cgroups / path)) is not None]
    return Capacity(max(1, cpus) * 1000, min([memory, *limits]), _read_huge(pages))


def allocatable(capacity: Capacity, tenant_planes: int) -> Capacity:
    """What is left for machines beside the platform and that many tenant control planes."""
    return Capacity(
        max(_LEAST_MILLI, capacity.cpu_milli - PLATFORM_MILLI - tenant_planes * TENANT_PLANE_MILLI),
        max(
            _LEAST_BYTES,
            capacity.memory_bytes - PLATFORM_BYTES - tenant_planes * TENANT_PLANE_BYTES - sum(size for _, size in capacity.huge),
        ),
        capacity.huge,
    )


def share(capacity: Capacity, hosts: int) -> Capacity:
    """What each of so many virtual hosts has of it."""
    return Capacity(capacity.cpu_milli // hosts, capacity.memory_bytes // hosts)


def as_resources(capacity: Capacity) -> dict[str, str]:
    """As `status.capacity` and `status.allocatable` of a Node hold it."""
    huge = {f"hugepages-{format_bytes(page)}": format_bytes(size) for page, size in capacity.huge}
    return {"cpu": format_milli(capacity.cpu_milli), "memory": format_bytes(capacity.memory_bytes), "pods": str(MAX_MACHINES), **huge}


def parse_meminfo(text: str) -> dict[str, int]:
    """`/proc/meminfo` as bytes by name."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            sizes[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return sizes


def _read_huge(pages: Path) -> tuple[tuple[int, int], ...]:
    """Only sizes of which the host has pages; which of them are in use is the scheduler's to know."""
    found = []
    for folder in sorted(pages.glob("hugepages-*kB")):
        page_bytes = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        if count := find_limit(folder / "nr_hugepages"):
            found.append((page_bytes, count * page_bytes))
    return tuple(found)


def find_limit(path: Path) -> int | None:
    """The number in a file of a control group; None when there is no such file, or no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
