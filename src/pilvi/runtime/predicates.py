"""Which changes of an object are worth a reconcile.

Without them each status write of a controller would run it again. A predicate gets (old, new) of an update; additions and
deletions always count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from pilvi.api import JsonObject

__all__ = ["Predicate", "any_change", "conditions_changed", "desire_changed"]

Predicate: TypeAlias = Callable[[JsonObject, JsonObject], bool]

_METADATA = ("generation", "labels", "annotations", "finalizers", "deletionTimestamp", "ownerReferences")


def any_change(old: JsonObject, new: JsonObject) -> bool:
    """Every change counts. What owned and watched kinds use: their status is what one waits for."""
    return True


def desire_changed(old: JsonObject, new: JsonObject) -> bool:
    """Spec or metadata changed, not the status alone. What a controller's own kind uses by default.

    The API server raises `generation` with the spec. Kinds that have none (ConfigMap, Node) count with every change.
    """
    before, after = old["metadata"], new["metadata"]
    if not after.get("generation"):
        return True
    return any(before.get(name) != after.get(name) for name in _METADATA)


def conditions_changed(old: JsonObject, new: JsonObject) -> bool:
    """Spec, metadata or a condition's status changed; for watched kinds whose status is written often."""
    return desire_changed(old, new) or _statuses(old) != _statuses(new)


def _statuses(obj: JsonObject) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in (obj.get("status") or {}).get("conditions") or []}
