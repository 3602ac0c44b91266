"""Where the services of a VPC, resolver and DHCP, have their files, and who they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.lib.files import write_atomic

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["find_folders", "log_path", "services_uid", "vpc_folder", "write_changed"]

_PREFIX = "vpc-"


def vpc_folder(cloud: Cloud, vpc_hash: str) -> Path:
    """The folder of one Vpc, from the hash of its UID."""
    return _networks(cloud) / f"{_PREFIX}{vpc_hash}"


def find_folders(cloud: Cloud) -> set[str]:
    """The hashes of the UIDs of all Vpcs that have a folder, whether anything of them runs or not."""
    return {path.name.removeprefix(_PREFIX) for path in _networks(cloud).glob(f"{_PREFIX}*")}


def log_path(cloud: Cloud, unit: str) -> Path:
    """Where a unit writes to."""
    return cloud.home / "logs" / f"{unit}.log"


def services_uid(cloud: Cloud) -> int:
    """All services of a cloud's VPCs share the last uid of its block (`providers.uids`): they hold no secrets and no state."""
    return cloud.uid_base + cloud.uid_count - 1


def write_changed(path: Path, text: str) -> None:
    """Have the file hold this text; the disk is not touched when it does already."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except FileNotFoundError:
        pass
    write_atomic(path, text)


def _networks(cloud: Cloud) -> Path:
    return cloud.home / "networks"
