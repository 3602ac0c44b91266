"""The interface, and which of its two implementations this host needs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pilvi.errors import UserError
from pilvi.host import mounts
from pilvi.host.cgroups.limits import CgroupLimits
from pilvi.host.cgroups.v1 import CgroupsV1
from pilvi.host.cgroups.v2 import CgroupsV2
from pilvi.host.mounts import Mount

__all__ = ["Cgroups", "find_cgroups", "get_cgroups"]


class Cgroups(Protocol):
    """Groups of processes with limits. Paths are relative to the root of each tree. Calls may be repeated; OSError passes through."""

    version: int

    def create(self, path: str, limits: CgroupLimits | None) -> None:
        """Make the group, with its parents, in every tree, with exactly these limits; an existing one gets them too."""

    def entries(self, path: str) -> list[Path]:
        """The files that a process writes `0` into to enter the group."""

    def procs(self, path: str) -> set[int]:
        """Pids of all processes in the group and in groups below it."""

    def kill(self, path: str) -> None:
        """SIGKILL to all of them, once; what forks meanwhile may need another call."""

    def memory_bytes(self, path: str) -> int | None:
        """Anonymous, shared and swapped memory of the group and below it; None when there is no group.

        Page cache is left out on purpose: the units of all control planes run one binary, its pages are charged to whoever read them first,
        and they go when memory is needed. So the figure is what ending the unit would give back. It is one small file to read.
        """

    def remove(self, path: str) -> None:
        """Remove the group and all below it; raises OSError with EBUSY while a process lives in it."""

    def find(self, prefix: str) -> list[str]:
        """Names of the groups at the top that begin with `prefix`."""


def find_cgroups(table: list[Mount] | None = None) -> Cgroups | None:
    """The groups of this host, or None when no tree with a memory controller is mounted. `table` is the mount table, for tests."""
    table = mounts.list_mounts() if table is None else table
    roots: dict[str, Path] = {}
    unified: Path | None = None
    for mount in table:
        if mount.fs_type == "cgroup":
            names = (option for option in mount.options.split(",") if option not in ("rw", "ro", "xattr", "clone_children"))
            roots.update((name, mount.point) for name in names if "=" not in name or name.startswith("name="))
        elif mount.fs_type == "cgroup2":
            unified = mount.point
    if "memory" in roots:
        # A version 2 tree beside it has no controllers, but processes are in it all the same.
        return CgroupsV1({**roots, **({"unified": unified} if unified else {})})
    if unified is not None and "memory" in (unified / "cgroup.controllers").read_text(encoding="ascii").split():
        return CgroupsV2(unified)
    return None


def get_cgroups() -> Cgroups:
    """Like `find_cgroups`, but raises UserError."""
    found = find_cgroups()
    if found is None:
        raise UserError(
            "no control groups with a memory controller are mounted",
            hint="mount them: `mount -t cgroup2 none /sys/fs/cgroup`; in a container, start it with --privileged",
        )
    return found
