"""Holds a cloud in a memory limit from its first process on: the engine, all units and the commands, page cache included."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pilvi.host import libc, mounts
from pilvi.host.cgroups import get_cgroups, tree
from pilvi.host.cgroups.v1 import CgroupsV1
from pilvi.host.cgroups.v2 import CgroupsV2

MNT_DETACH = 2


class MemoryLimit:
    """The control group that everything is in."""

    def __init__(self, top: Path, version: int) -> None:
        limit, most, self._events, self._none = (
            ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "-1")
            if version == 1
            else ("memory.max", "memory.peak", "memory.events", "max")
        )
        self._top, self._limit, self._most = top, top / limit, top / most

    def set(self, limit_bytes: int) -> None:
        self._limit.write_text(str(limit_bytes))

    def lift(self) -> None:
        self._limit.write_text(self._none)

    def most_bytes(self) -> float:
        """The most that was used at any moment; raises RuntimeError when the kernel ended a process for it."""
        # Version 1 counts in the group of the process that was ended, wherever the limit is.
        for group in tree.descendants(self._top):
            if tree.read_stat(group / self._events, "oom_kill"):
                raise RuntimeError(f"the kernel ended a process of {group.name} that did not fit into the limit")
        return float(self._most.read_text())


@contextmanager
def limited(limit_bytes: int) -> Iterator[MemoryLimit]:
    """Enter a new control group that this mount namespace takes for the top of the tree, so that a cloud makes its groups below it.

    Needs a mount namespace of the caller's own. Whatever is left in the group at the end is ended.
    """
    top = _memory_tree()
    group = top / f"bench-{os.getpid()}"
    outside = os.open(top / "cgroup.procs", os.O_WRONLY)
    group.mkdir()
    mounts.bind(group, top)
    try:
        (top / "cgroup.procs").write_text("0")
        limit = MemoryLimit(top, get_cgroups().version)
        limit.set(limit_bytes)
        yield limit
    finally:
        os.write(outside, b"0")
        os.close(outside)
        while left := tree.read_procs(top):
            tree.kill_all(left)
            time.sleep(0.05)
        libc.umount(top, MNT_DETACH)  # the copy alone: `mounts.unmount` takes what lies below it as well
        tree.remove_group(group)


def _memory_tree() -> Path:
    found = get_cgroups()
    if isinstance(found, CgroupsV1):
        return found.roots["memory"]
    assert isinstance(found, CgroupsV2)
    return found.root
