"""Conditions as pure data: build, set, merge by type, look up.

`lastTransitionTime` changes only when the status does (Kubernetes API conventions), so an unchanged set is equal to the stored
one and needs no write.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time

__all__ = ["Status", "condition", "conditions_of", "find_condition", "is_true", "merge_conditions", "set_condition"]

Status = Literal["True", "False", "Unknown"]


def condition(type: str, status: Status | bool, reason: str, message: str = "", *, observed_generation: int | None = None) -> JsonObject:
    """A condition without its time, which `merge_conditions` adds. `reason` is CamelCase; `message` ends with the next step.

    `observed_generation` is the `metadata.generation` that was read; give it only after success.
    """
    built: JsonObject = {"type": type, "status": status if isinstance(status, str) else str(status), "reason": reason, "message": message}
    if observed_generation is not None:
        built["observedGeneration"] = observed_generation
    return built


def merge_conditions(old: Iterable[JsonObject] | None, new: Iterable[JsonObject], *, now: datetime | None = None) -> list[JsonObject]:
    """`old` with each condition of `new` put in the place of the one of its type, or appended.

    Types that only `old` has are kept: others may own them. The time is kept where the status is the same, `now` otherwise.
    Neither argument is changed.
    """
    by_type = {entry["type"]: entry for entry in old or ()}
    for entry in new:
        before = by_type.get(entry["type"])
        unchanged = before is not None and before.get("status") == entry["status"] and before.get("lastTransitionTime")
        since = before["lastTransitionTime"] if before is not None and unchanged else format_time(now)
        by_type[entry["type"]] = {**entry, "lastTransitionTime": since}
    return list(by_type.values())


def set_condition(
    conditions: Sequence[JsonObject] | None,
    type: str,
    status: Status | bool,
    reason: str,
    message: str = "",
    *,
    observed_generation: int | None = None,
    now: datetime | None = None,
) -> list[JsonObject]:
    """`merge_conditions` for one condition."""
    return merge_conditions(conditions, [condition(type, status, reason, message, observed_generation=observed_generation)], now=now)


def conditions_of(obj: JsonObject) -> list[JsonObject]:
    """`status.conditions` of an object; empty when there are none yet."""
    return (obj.get("status") or {}).get("conditions") or []


def find_condition(obj: JsonObject, type: str) -> JsonObject | None:
    """The condition of that type in `status.conditions`, or None."""
    return next((entry for entry in conditions_of(obj) if entry.get("type") == type), None)


def is_true(obj: JsonObject, type: str) -> bool:
    """Whether the object has that condition with status True."""
    found = find_condition(obj, type)
    return found is not None and found.get("status") == "True"
