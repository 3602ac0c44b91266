"""Everything on this host that carries a cloud's id. `down --purge` proves with it that nothing is left, and so does every test.

Looks at the kernel and at files, never at records of ours, so that it also finds what nobody remembers.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from pilvi.errors import DriverError
from pilvi.host import mounts, nft
from pilvi.host.cgroups import find_cgroups
from pilvi.host.cloud import Cloud
from pilvi.host.netns import list_netns, netns_path
from pilvi.host.network import list_links

__all__ = ["Leftover", "find_leftovers"]


class Leftover(msgspec.Struct, frozen=True, order=True):
    """One thing that is still there. `kind` is `process`, `namespace`, `link`, `nft table`, `mount`, `loop device`, `cgroup` or `file`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


async def find_leftovers(cloud: Cloud) -> list[Leftover]:
    """All of the cloud that is left outside its home, sorted. Reads /proc of all processes: some ten milliseconds."""
    found = [Leftover("namespace", name) for name in list_netns(cloud.netns_prefix)]
    found += [Leftover("link", link.name) for link in await list_links(None, cloud.bridge)]
    found += await _nft_tables(cloud)
    found += _mounts(cloud)
    found += _loop_devices(cloud)
    found += _cgroups(cloud)
    found += _processes(cloud)
    if cloud.run.exists():
        found += [Leftover("file", str(path)) for path in (cloud.run, *sorted(cloud.run.rglob("*")))]
    return sorted(set(found))


async def _nft_tables(cloud: Cloud) -> list[Leftover]:
    try:
        tables = await nft.list_tables(None)
    except DriverError as e:
        if e.code == 127:
            return []  # no nft, so no table of ours
        raise
    return [
        Leftover("nft table", f"{family} {name}")
        for family, name in tables
        if name == cloud.nft_table or name.startswith(f"{cloud.nft_table}-")
    ]


def _mounts(cloud: Cloud) -> list[Leftover]:
    def is_ours(mount: mounts.Mount) -> bool:
        # The home itself may be a disk of its own, which is not ours to unmount.
        inside = (f"{cloud.home}/", f"{cloud.run}/", str(netns_path(cloud.netns_prefix)))
        return mount.point == cloud.run or str(mount.point).startswith(inside)

    return [Leftover("mount", str(mount.point)) for mount in mounts.list_mounts() if is_ours(mount)]


def _loop_devices(cloud: Cloud) -> list[Leftover]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(FileNotFoundError):
            file = backing.read_text(encoding="utf-8").strip()
            if file.startswith((f"{cloud.home}/", f"{cloud.run}/")):
                found.append(Leftover("loop device", f"/dev/{backing.parents[1].name} on {file}"))
    return found


def _cgroups(cloud: Cloud) -> list[Leftover]:
    cgroups = find_cgroups()
    return [] if cgroups is None else [Leftover("cgroup", name) for name in cgroups.find(cloud.cgroup_root)]


def _processes(cloud: Cloud) -> list[Leftover]:
    """Processes in a group of the cloud, with a uid of the cloud, or in a network namespace of the cloud."""
    namespaces = set()
    for name in list_netns(cloud.netns_prefix):
        with contextlib.suppress(FileNotFoundError):
            namespaces.add(_place(os.stat(netns_path(name))))
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # A process may end at any point of this; then it is no leftover.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            process = Path("/proc", pid)
            in_group = any(f"/{cloud.cgroup_root}" in line for line in (process / "cgroup").read_text(encoding="utf-8").splitlines())
            if in_group or process.stat().st_uid in cloud.uids or _network(process) in namespaces:
                if not (command := (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()):
                    continue  # a zombie, which holds nothing; or a thread of the kernel
                found.append(Leftover("process", f"{pid} {command[:80]}"))
    return found


def _network(process: Path) -> tuple[int, int] | None:
    try:
        return _place(os.stat(process / "ns/net"))
    except PermissionError:
        return None  # the container's own first process, shielded from us; we did not start it


def _place(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
