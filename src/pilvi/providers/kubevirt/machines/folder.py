"""Where a machine keeps its files, whatever runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.lib.files import remove_tree

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = [
    "TPM",
    "VARIABLES",
    "copy_kept",
    "has_kept",
    "kept_folder",
    "list_kept_folders",
    "list_machine_folders",
    "machine_folder",
    "remove_kept",
]

VARIABLES, TPM = "uefi-variables.fd", "tpm"
"""The files of what is kept: the variables of the firmware, the secrets of the TPM."""


def machine_folder(cloud: Cloud, uid: str) -> Path:
    """All that a machine keeps on the disk; it goes with the VirtualMachineInstance of that UID."""
    return cloud.home / "machines" / uid


def kept_folder(cloud: Cloud, uid: str) -> Path:
    """What the firmware and the TPM of a VirtualMachine keep from one run to the next; it goes with the VirtualMachine of that UID.

    Or a copy of that in a VirtualMachineSnapshotContent of that UID, which it goes with.
    """
    return cloud.home / "kept" / uid


def has_kept(cloud: Cloud, uid: str) -> bool:
    """Whether there is one."""
    return kept_folder(cloud, uid).is_dir()


def copy_kept(cloud: Cloud, source: str, target: str, names: Collection[str] = (VARIABLES, TPM)) -> None:
    """Make what `target` keeps a copy of what `source` does, of those files; nothing when that keeps none. Blocks. Raises OSError.

    A machine that runs may change its files meanwhile: they are then as after a power cut.
    """
    found = [path for name in names if (path := kept_folder(cloud, source) / name).is_file()]
    if not found:
        return
    unfinished = _unfinished(cloud, target)
    remove_tree(unfinished)
    unfinished.mkdir(mode=0o700, parents=True)
    for path in found:
        copied = unfinished / path.name
        shutil.copyfile(path, copied)
        copied.chmod(0o600)
    remove_tree(kept_folder(cloud, target))
    os.replace(unfinished, kept_folder(cloud, target))


def remove_kept(cloud: Cloud, uid: str) -> None:
    """Remove it, if there is one. Blocks. Raises OSError."""
    folder = kept_folder(cloud, uid)
    remove_tree(_unfinished(cloud, uid))
    remove_tree(folder)
    with contextlib.suppress(OSError):  # others have theirs in it
        folder.parent.rmdir()


def list_kept_folders(cloud: Cloud) -> list[str]:
    """UIDs of all that have one, also of those whose copy was never finished."""
    return sorted({name.removeprefix(".").removesuffix(".new") for name in _names(cloud.home / "kept")})


def _unfinished(cloud: Cloud, uid: str) -> Path:
    return kept_folder(cloud, f".{uid}.new")


def list_machine_folders(cloud: Cloud) -> list[str]:
    """UIDs of all machines that have one: each has it before anything else, and until everything else is gone."""
    return _names(cloud.home / "machines")


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
