"""CDI's conditions: they have a heartbeat beside the time of transition, which moves when anything changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time
from pilvi.runtime import conditions_of, merge_conditions

__all__ = ["with_conditions"]


def with_conditions(obj: JsonObject, told: Iterable[JsonObject], now: datetime | None = None) -> list[JsonObject]:
    """The conditions of `obj` with those of `told` in place of older ones of their types."""
    return merge_conditions(conditions_of(obj), [_stamped(obj, entry, now) for entry in told], now=now)


def _stamped(obj: JsonObject, told: JsonObject, now: datetime | None) -> JsonObject:
    before = next((entry for entry in conditions_of(obj) if entry["type"] == told["type"]), {})
    same = all(before.get(name) == told[name] for name in ("status", "reason", "message"))
    return {**told, "lastHeartbeatTime": (before.get("lastHeartbeatTime") if same else None) or format_time(now)}
