"""Where a machine keeps its files, whatever runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["kept_folder", "list_kept_folders", "list_machine_folders", "machine_folder"]


def machine_folder(cloud: Cloud, uid: str) -> Path:
    """All that a machine keeps on the disk; it goes with the VirtualMachineInstance of that UID."""
    return cloud.home / "machines" / uid


def kept_folder(cloud: Cloud, vm_uid: str) -> Path:
    """What a VirtualMachine's firmware and TPM keep from one run to the next; it goes with the VirtualMachine of that UID."""
    return cloud.home / "kept" / vm_uid


def list_kept_folders(cloud: Cloud) -> list[str]:
    """UIDs of all VirtualMachines that have one."""
    return _names(cloud.home / "kept")


def list_machine_folders(cloud: Cloud) -> list[str]:
    """UIDs of all machines that have one: each has it before anything else, and until everything else is gone."""
    return _names(cloud.home / "machines")


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
