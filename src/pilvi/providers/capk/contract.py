"""What all of Cluster API's infrastructure providers do alike: find the Cluster, stop when paused, keep conditions. Pure.

Conditions are written as Cluster API's v1beta1 has them, which is what CAPK's kinds hold: no empty messages, no generations.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pilvi.api import JsonObject, Key
from pilvi.providers.capk.names import CLUSTER_NAME, PAUSED
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["capk_condition", "cluster_key", "find_owner", "is_paused", "merge_capk_conditions"]

_CLUSTER_API = "cluster.x-k8s.io"


def find_owner(obj: JsonObject, kind: str) -> Key | None:
    """The key of the owner of that Cluster API kind, in any version, or None."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference["kind"] == kind and reference["apiVersion"].partition("/")[0] == _CLUSTER_API:
            return Key(obj["metadata"]["namespace"], reference["name"])
    return None


def cluster_key(obj: JsonObject) -> Key | None:
    """The Cluster that `obj` belongs to: its owner, else the one that its label names."""
    owner = find_owner(obj, "Cluster")
    name = (obj["metadata"].get("labels") or {}).get(CLUSTER_NAME)
    return owner or (Key(obj["metadata"]["namespace"], name) if name else None)


def is_paused(obj: JsonObject, cluster: JsonObject | None) -> bool:
    """Whether controllers are asked to leave `obj` alone."""
    return PAUSED in (obj["metadata"].get("annotations") or {}) or bool(((cluster or {}).get("spec") or {}).get("paused"))


def capk_condition(kind: str, status: bool | None, reason: str, message: str = "") -> JsonObject:
    """A condition without its time; `status` None is Unknown. A true one needs no message."""
    built = condition(kind, "Unknown" if status is None else status, reason, message)
    if not message:
        del built["message"]
    # A cluster that is not paused is in no trouble.
    if status is False and kind != "Paused":
        built["severity"] = "Info" if reason.startswith("Waiting") or reason in ("Bootstrapping", "Deleting") else "Error"
    return built


def merge_capk_conditions(obj: JsonObject, new: Iterable[JsonObject], now: datetime) -> list[JsonObject]:
    """The conditions of `obj` with the new ones in their places."""
    return merge_conditions(conditions_of(obj), new, now=now)
