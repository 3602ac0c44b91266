"""Everything on this host that carries a cloud's id. `down --purge` proves with it that nothing is left, and so does every test.

`find_leftovers` looks at the kernel and at files, never at records of ours, so that it also finds what nobody remembers. The records
that the clouds of a host share are `find_records`'s, since they go last.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from pilvi.errors import DriverError
from pilvi.host import mounts, nft
from pilvi.host.cgroups import find_cgroups
from pilvi.host.cloud import CLOUD_FILE, Cloud
from pilvi.host.hostfile import HOST_FILE, open_host_file
from pilvi.host.netns import list_netns, netns_path
from pilvi.host.network import list_links

__all__ = ["Leftover", "find_leftovers", "find_records"]


class Leftover(msgspec.Struct, frozen=True, order=True):
    """One thing that is still there.

    `kind` is `process`, `namespace`, `link`, `nft table`, `mount`, `loop device`, `cgroup`, `file`, `registry entry` or `host setting`.
    """

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
    found += _service_files(cloud)
    return sorted(set(found))


def find_records(cloud: Cloud, *, host_file: Path = HOST_FILE) -> list[Leftover]:
    """What this host still remembers of a cloud that was forgotten: its entry, settings changed for it, its identity. Blocking, short.

    Without any cloud or setting the file that they share, and its lock, must be gone too.
    """
    with open_host_file(host_file) as host:
        found = [Leftover("registry entry", f"{cloud.id} in {host_file}")] if cloud.id in host.clouds else []
        found += [Leftover("host setting", name) for name, setting in host.settings.items() if cloud.id in setting.users]
        files = [] if host.clouds or host.settings else [host_file, host_file.with_suffix(".lock")]
    return sorted(found + [Leftover("file", str(path)) for path in (*files, cloud.home / CLOUD_FILE) if path.exists()])


def _service_files(cloud: Cloud) -> list[Leftover]:
    """The engine's service, and the links by which systemd starts it (systemctl enable); they may lead nowhere."""
    file = cloud.service_file
    places = (file, *(folder / file.name for folder in sorted(file.parent.glob("*.wants"))))
    return [Leftover("file", str(path)) for path in places if path.exists() or path.is_symlink()]


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
    """Processes in a group of the cloud, with a uid of the cloud, in a network namespace of the cloud; its engine and the engine's parent.

    These two have none of the three: they are root's, in the host's namespaces. Their command line tells whose they are.
    """
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
            argv = (process / "cmdline").read_bytes().split(b"\0")
            if not any(argv):
                continue  # a zombie, which holds nothing; or a thread of the kernel
            is_engine = b"pilvi.engine" in argv and os.fsencode(cloud.home) in argv
            if is_engine or in_group or process.stat().st_uid in cloud.uids or _network(process) in namespaces:
                command = b" ".join(argv).decode("utf-8", "replace").strip()
                found.append(Leftover("process", f"{pid} {command[:80]}"))
    return found


def _network(process: Path) -> tuple[int, int] | None:
    try:
        return _place(os.stat(process / "ns/net"))
    except PermissionError:
        return None  # the container's own first process, shielded from us; we did not start it


def _place(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
