"""Version 1: a tree per controller, each mounted at its own place. A unit has a group of the same name in every tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pilvi.host.cgroups import tree
from pilvi.host.cgroups.limits import CgroupLimits

__all__ = ["CgroupsV1"]

_CPU_PERIOD_US = 100_000


class CgroupsV1:
    """`roots` maps a controller (`memory`, `cpu`, ... `name=systemd`, `unified` for an empty version 2 tree) to its mount point."""

    version = 1

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self.roots = dict(roots)

    def create(self, path: str, limits: CgroupLimits | None) -> None:
        """See `Cgroups.create`."""
        for root in self._trees():
            (root / path).mkdir(parents=True, exist_ok=True)
        if "cpuset" in self.roots:
            self._copy_cpuset(path)
        limits = limits or CgroupLimits()
        if memory := self.roots.get("memory"):
            tree.write_limit(memory / path / "memory.limit_in_bytes", -1 if limits.memory_bytes is None else limits.memory_bytes)
        if cpu := self.roots.get("cpu"):
            quota_us = -1 if limits.cpu_milli is None else limits.cpu_milli * _CPU_PERIOD_US // 1000
            tree.write_limit(cpu / path / "cpu.cfs_quota_us", quota_us)
        if pids := self.roots.get("pids"):
            tree.write_limit(pids / path / "pids.max", "max" if limits.pids is None else limits.pids)

    def entries(self, path: str) -> list[Path]:
        """See `Cgroups.entries`."""
        return [root / path / "cgroup.procs" for root in self._trees()]

    def procs(self, path: str) -> set[int]:
        """See `Cgroups.procs`."""
        return set().union(*(tree.read_procs(root / path) for root in self._trees()))

    def kill(self, path: str) -> None:
        """See `Cgroups.kill`."""
        tree.kill_all(self.procs(path))

    def memory_bytes(self, path: str) -> int | None:
        """See `Cgroups.memory_bytes`."""
        if "memory" not in self.roots:
            return None
        return tree.read_stat(self.roots["memory"] / path / "memory.stat", "total_rss", "total_shmem", "total_swap")

    def remove(self, path: str) -> None:
        """See `Cgroups.remove`."""
        for root in self._trees():
            tree.remove_group(root / path)

    def find(self, prefix: str) -> list[str]:
        """See `Cgroups.find`."""
        return sorted(set().union(*(tree.list_groups(root, prefix) for root in self._trees())))

    def _trees(self) -> list[Path]:
        """Each tree once: controllers may be mounted together, such as `cpu,cpuacct`."""
        return sorted(set(self.roots.values()))

    def _copy_cpuset(self, path: str) -> None:
        """A new cpuset is empty and lets no process in until it has processors and memory nodes: take the parent's."""
        group = self.roots["cpuset"]
        for part in Path(path).parts:
            parent, group = group, group / part
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (group / name).read_text(encoding="ascii").strip():
                    (group / name).write_text((parent / name).read_text(encoding="ascii"), encoding="ascii")
