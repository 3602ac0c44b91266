"""Who may have which of the cloud's host uids, so that allocators need not ask each other.

The first uid is the platform's control plane, the last the resolvers of VPCs. Of the others the lower half is for control planes
of tenants, the upper half for machines. Each uid in use stands in an annotation on the object that it serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["UID_ANNOTATION", "control_plane_uids", "find_uid", "machine_uids", "used_uids"]

UID_ANNOTATION = "pilvi.dev/uid"
_LONGEST = 10  # digits


def control_plane_uids(cloud: Cloud) -> range:
    """The uids for control planes of tenants."""
    return cloud.uids[1 : len(cloud.uids) // 2]


def machine_uids(cloud: Cloud) -> range:
    """The uids for machines."""
    return cloud.uids[len(cloud.uids) // 2 : -1]


def find_uid(obj: JsonObject, uids: range) -> int | None:
    """The uid recorded on the object; None when there is none of `uids`, for anybody may have written there what he likes."""
    text = (obj["metadata"].get("annotations") or {}).get(UID_ANNOTATION, "")
    return int(text) if text.isdecimal() and len(text) <= _LONGEST and int(text) in uids else None


def used_uids(objects: Iterable[JsonObject], uids: range) -> set[int]:
    """All of `uids` that are recorded on these objects."""
    return {uid for obj in objects if (uid := find_uid(obj, uids)) is not None}
