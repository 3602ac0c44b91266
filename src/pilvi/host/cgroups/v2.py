"""Version 2: one tree. Groups are made directly below its root (in a container: below the root that the container sees).

Not below the engine's own service, although systemd would like that: units outlive the engine, and the command line must find
them without it. systemd leaves groups alone that it did not make.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from pilvi.host.cgroups import tree
from pilvi.host.cgroups.limits import CgroupLimits

__all__ = ["CgroupsV2"]

log = logging.getLogger(__name__)

_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_CPU_PERIOD_US = 100_000
_REST = "pilvi-rest"


class CgroupsV2:
    """`root` is where the tree is mounted."""

    version = 2

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, path: str, limits: CgroupLimits | None) -> None:
        """See `Cgroups.create`."""
        group = self.root
        for part in Path(path).parts:
            self._enable(group)
            group /= part
            group.mkdir(exist_ok=True)
        limits = limits or CgroupLimits()
        quota = "max" if limits.cpu_milli is None else str(limits.cpu_milli * _CPU_PERIOD_US // 1000)
        for name, value in (
            ("memory.max", "max" if limits.memory_bytes is None else str(limits.memory_bytes)),
            ("cpu.max", f"{quota} {_CPU_PERIOD_US}"),
            ("pids.max", "max" if limits.pids is None else str(limits.pids)),
        ):
            # A controller that the kernel does not have: the file is missing. doctor tells; a limit asked for is an error.
            if (group / name).exists() or not value.startswith("max"):
                tree.write_limit(group / name, value)

    def entries(self, path: str) -> list[Path]:
        """See `Cgroups.entries`."""
        return [self.root / path / "cgroup.procs"]

    def procs(self, path: str) -> set[int]:
        """See `Cgroups.procs`."""
        return tree.read_procs(self.root / path)

    def kill(self, path: str) -> None:
        """See `Cgroups.kill`."""
        try:
            # All at once, also what forks meanwhile (Linux 5.14).
            (self.root / path / "cgroup.kill").write_text("1", encoding="ascii")
        except FileNotFoundError:
            tree.kill_all(self.procs(path))

    def memory_bytes(self, path: str) -> int | None:
        """See `Cgroups.memory_bytes`."""
        return tree.read_stat(self.root / path / "memory.stat", "anon", "shmem")

    def remove(self, path: str) -> None:
        """See `Cgroups.remove`."""
        tree.remove_group(self.root / path)

    def find(self, prefix: str) -> list[str]:
        """See `Cgroups.find`."""
        return tree.list_groups(self.root, prefix)

    def _enable(self, group: Path) -> None:
        """Give the groups below `group` the controllers that it has itself."""
        control = group / "cgroup.subtree_control"
        enabled = control.read_text(encoding="ascii").split()
        offered = (group / "cgroup.controllers").read_text(encoding="ascii").split()
        missing = [name for name in _CONTROLLERS if name in offered and name not in enabled]
        if not missing:
            return
        words = " ".join(f"+{name}" for name in missing)
        try:
            control.write_text(words, encoding="ascii")
        except OSError as e:
            if e.errno != errno.EBUSY or group != self.root:
                raise
            # A container without an init of its own: its processes sit in the root that it sees, and a group with processes
            # cannot hand out controllers. They move into a group beside ours.
            self._clear_root()
            control.write_text(words, encoding="ascii")

    def _clear_root(self) -> None:
        rest = self.root / _REST
        rest.mkdir(exist_ok=True)
        log.info("moving the processes of %s into %s, so that it can hand out controllers", self.root, rest)
        for pid in (self.root / "cgroup.procs").read_text(encoding="ascii").split():
            try:
                (rest / "cgroup.procs").write_text(pid, encoding="ascii")
            except ProcessLookupError:
                continue
