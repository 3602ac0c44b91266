"""What of the kit's folder nobody on this host needs any more, and its removal.

Needed is what this pilvi builds, and of other pilvis' parts and images what a cloud of this host uses: programs that run, roots of
machines, and the Kubernetes version of every control plane, also of a cloud that is stopped. Another pilvi that is installed here, but
has no cloud, is not known: it builds its parts anew.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from pilvi import kit
from pilvi.controlplane import VERSION_FILE
from pilvi.host.cloud import Cloud, list_clouds
from pilvi.host.units.record import list_records
from pilvi.lib.files import find_json
from pilvi.node import find_node_image
from pilvi.node.images import list_images, without_builder

__all__ = ["Plan", "measure", "plan_prune", "prune"]


class Plan(msgspec.Struct, frozen=True):
    """What goes, and of what would go otherwise what stays, with who uses it. `freed_bytes` is what the disk gets back."""

    doomed: tuple[Path, ...]
    kept: Mapping[Path, str]
    freed_bytes: int


def plan_prune() -> Plan:
    """Look at the kit and at all clouds of this host. Needs root. Blocks. Raises UserError."""
    useless = [*kit.find_useless(), *(image.path for image in list_images() if image.state == "stale" and image.path is not None)]
    users = find_users(kit.get_folder(), list_clouds())
    doomed = tuple(path for path in useless if path not in users)
    return Plan(doomed, {path: users[path] for path in useless if path in users}, measure(doomed))


def prune(plan: Plan) -> None:
    """Remove what the plan says, but for what has found a user meanwhile. Blocks.

    Raises UserError when another command is at work in the kit, PilviError when something is mounted there.
    """
    with without_builder():
        users = find_users(kit.get_folder(), list_clouds())
        kit.remove([path for path in plan.doomed if path not in users])


def find_users(root: Path, clouds: Iterable[Cloud]) -> dict[Path, str]:
    """Folders of the kit below `root` that are used, with by whom."""
    users: dict[Path, str] = {}
    for cloud in clouds:
        for path in _paths_of(cloud, root):
            if (folder := _find_folder(root, path)) is not None:
                users.setdefault(folder, f"cloud {cloud.id} in {cloud.home}")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is a thread of the kernel
            folder = _find_folder(root, Path(os.readlink(f"/proc/{pid}/exe")))
            if folder is not None:
                users.setdefault(folder, f"process {pid}")
    return users


def measure(trees: Iterable[Path]) -> int:
    """Bytes that the disk gets back when these trees go: what has a link elsewhere, as a node image has to the kit, stays on it."""
    seen: dict[tuple[int, int], int] = {}
    freed = 0
    for info in _entries(trees):
        inode = info.st_dev, info.st_ino
        seen[inode] = seen.get(inode, 0) + 1
        if seen[inode] == info.st_nlink:
            freed += info.st_blocks * 512
    return freed


def _paths_of(cloud: Cloud, root: Path) -> Iterator[Path]:
    """Files and folders that the cloud cannot do without, wherever they lie."""
    for record in list_records(cloud.units_dir):
        yield Path(record.spec.argv[0])
    for document in (cloud.home / "machines").glob("*/state/sandbox.json"):
        if (content := find_json(document)) is not None:
            yield Path(content["root"])
    for version in {cloud.kubernetes, *_versions_of(cloud)} - {""}:
        if (part := kit.find_kubernetes(version)) is not None:
            yield part
        if (image := find_node_image(version, root)) is not None:
            yield image.root


def _versions_of(cloud: Cloud) -> Iterator[str]:
    for path in (cloud.home / "control-planes").glob(f"*/{VERSION_FILE}"):
        with contextlib.suppress(FileNotFoundError):  # the control plane has just been removed
            yield path.read_text(encoding="ascii").strip()


def _find_folder(root: Path, path: Path) -> Path | None:
    """The folder of the kit that `path` lies in."""
    with contextlib.suppress(ValueError):
        return root / path.resolve().relative_to(root.resolve()).parts[0]
    return None


def _entries(trees: Iterable[Path]) -> Iterator[os.stat_result]:
    for tree in trees:
        if tree.is_symlink() or not tree.is_dir():
            yield tree.lstat()
            continue
        for folder, folders, files in os.walk(tree):
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in (*files, *links):
                yield os.lstat(os.path.join(folder, name))
