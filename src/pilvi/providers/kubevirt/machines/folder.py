"""Where a machine keeps its files, whatever runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["list_machine_folders", "machine_folder"]


def machine_folder(cloud: Cloud, uid: str) -> Path:
    """All that a machine keeps on the disk; it goes with the VirtualMachineInstance of that UID."""
    return cloud.home / "machines" / uid


def list_machine_folders(cloud: Cloud) -> list[str]:
    """UIDs of all machines that have one: each has it before anything else, and until everything else is gone."""
    root = cloud.home / "machines"
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
