"""Wall-clock times as Kubernetes writes them: RFC 3339 in UTC with a `Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["format_micro_time", "format_time", "parse_duration", "parse_time", "utc_now"]

_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?)h)?(?:(\d+(?:\.\d*)?)m(?!s))?(?:(\d+(?:\.\d*)?)s)?(?:(\d+(?:\.\d*)?)ms)?", re.ASCII)


def utc_now() -> datetime:
    """The present, with time zone UTC."""
    return datetime.now(UTC)


def format_time(moment: datetime | None = None) -> str:
    """`moment` (default now) as `metav1.Time`: whole seconds, `2026-11-23T15:04:05Z`."""
    return (moment or utc_now()).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime | None = None) -> str:
    """`moment` (default now) as `metav1.MicroTime`, as Leases want it: `2026-11-23T15:04:05.000000Z`."""
    return (moment or utc_now()).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """The inverse of both. Raises ValueError when `text` is not an RFC 3339 time with a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return moment


def parse_duration(text: str) -> float:
    """The seconds of a duration as Go writes it: `5m0s`, `1.5h`, `0`. Raises ValueError."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is no duration")
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds + millis / 1000
