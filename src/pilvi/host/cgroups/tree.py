"""What both versions share: groups are folders, and the processes of a group are in its files `cgroup.procs`."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["descendants", "kill_all", "list_groups", "read_procs", "read_stat", "remove_group", "write_limit"]


def descendants(group: Path) -> Iterator[Path]:
    """The group and all below it, the deepest first. A group that ends meanwhile is left out."""
    for folder, _, _ in os.walk(group, topdown=False):
        yield Path(folder)


def read_procs(group: Path) -> set[int]:
    """Pids of all processes in the group and below it."""
    found: set[int] = set()
    for folder in descendants(group):
        try:
            found.update(map(int, (folder / "cgroup.procs").read_text(encoding="ascii").split()))
        except OSError as e:
            # ENODEV: removed between opening and reading. EOPNOTSUPP: a threaded group, whose processes are seen in its parent.
            if e.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return found


def kill_all(pids: set[int]) -> None:
    """SIGKILL to each."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def remove_group(group: Path) -> None:
    """Remove the group and all below it; nothing there is fine. Raises OSError with EBUSY while a process lives in it."""
    for folder in descendants(group):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue


def list_groups(root: Path, prefix: str) -> list[str]:
    """Names of the groups directly below `root` that begin with `prefix`."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.name.startswith(prefix) and entry.is_dir())
    except FileNotFoundError:
        return []


def read_stat(file: Path, *names: str) -> int | None:
    """The sum of the named values in a file of `name value` lines; None when the group is gone."""
    try:
        values = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
    except (FileNotFoundError, OSError) as e:
        if e.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return None
    return sum(int(values.get(name, 0)) for name in names)


def write_limit(file: Path, value: int | str) -> None:
    """Write one limit. Raises OSError that names the file."""
    file.write_text(str(value), encoding="ascii")
