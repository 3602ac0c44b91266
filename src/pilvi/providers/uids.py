"""Who may have which of the cloud's host uids, so that allocators need not ask each other.

The first uid is the platform's control plane, the last the resolvers and DHCP of VPCs, the one before it the registry. Of the others
the lower half is for control planes of tenants, the upper half for machines. Each uid in use stands in an annotation on the object that
it serves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject
from pilvi.lib.allocate import find_free_number

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["UID_ANNOTATION", "choose_uid", "control_plane_uids", "find_uid", "machine_uids", "used_uids"]

UID_ANNOTATION = "pilvi.dev/uid"
_LONGEST = 10  # digits


def control_plane_uids(cloud: Cloud) -> range:
    """The uids for control planes of tenants."""
    return cloud.uids[1 : len(cloud.uids) // 2]


def machine_uids(cloud: Cloud) -> range:
    """The uids for machines."""
    return cloud.uids[len(cloud.uids) // 2 : -2]


def find_uid(obj: JsonObject, uids: range) -> int | None:
    """The uid recorded on the object; None when there is none of `uids`, for anybody may have written there what he likes."""
    text = (obj["metadata"].get("annotations") or {}).get(UID_ANNOTATION, "")
    return int(text) if text.isdecimal() and len(text) <= _LONGEST and int(text) in uids else None


def used_uids(objects: Iterable[JsonObject], uids: range) -> set[int]:
    """All of `uids` that are recorded on these objects."""
    return {uid for obj in objects if (uid := find_uid(obj, uids)) is not None}


def choose_uid(
    obj: JsonObject, others: Iterable[JsonObject], uids: range, *, owner: int | None = None, taken: Collection[int] = ()
) -> int | None:
    """The host uid of `obj`, one of `uids`; None when all are in use. Pure.

    `others` are all other objects of its kind. `owner` is whose its data is, None without data. `taken` are uids that others have, whatever
    their objects say. The recorded one is kept, unless an older object has recorded the same: then somebody copied the annotation.
    """
    if owner in uids:
        return owner
    others = list(others)
    recorded = find_uid(obj, uids)
    older = [other for other in others if _age(other) < _age(obj)]
    if recorded is not None and recorded not in taken and recorded not in used_uids(older, uids):
        return recorded
    return find_free_number(uids[0], uids[-1], used_uids(others, uids) | set(taken))


def _age(obj: JsonObject) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("namespace") or "", metadata["name"]
