"""Where a machine keeps its files, whatever runs it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.lib.files import remove_tree

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["kept_folder", "list_kept_folders", "list_machine_folders", "machine_folder", "remove_kept"]


def machine_folder(cloud: Cloud, uid: str) -> Path:
    """All that a machine keeps on the disk; it goes with the VirtualMachineInstance of that UID."""
    return cloud.home / "machines" / uid


def kept_folder(cloud: Cloud, vm_uid: str) -> Path:
    """What a VirtualMachine's firmware and TPM keep from one run to the next; it goes with the VirtualMachine of that UID."""
    return cloud.home / "kept" / vm_uid


def remove_kept(cloud: Cloud, vm_uid: str) -> None:
    """Remove it, if there is one. Blocks. Raises OSError."""
    folder = kept_folder(cloud, vm_uid)
    remove_tree(folder)
    with contextlib.suppress(OSError):  # others have theirs in it
        folder.parent.rmdir()


def list_kept_folders(cloud: Cloud) -> list[str]:
    """UIDs of all VirtualMachines that have one."""
    return _names(cloud.home / "kept")


def list_machine_folders(cloud: Cloud) -> list[str]:
    """UIDs of all machines that have one: each has it before anything else, and until everything else is gone."""
    return _names(cloud.home / "machines")


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
