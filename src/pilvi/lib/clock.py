"""Wall-clock times as Kubernetes writes them: RFC 3339 in UTC with a `Z`."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["format_micro_time", "format_time", "parse_time", "utc_now"]


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
