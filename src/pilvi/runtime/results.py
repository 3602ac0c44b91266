"""What a reconcile may say about the next one. A closed set; only the controller turns it into queue operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Done", "Failed", "RequeueAfter", "Result", "Waiting"]


@dataclass(frozen=True, slots=True)
class Done:
    """All is as desired; run again when something changes."""


@dataclass(frozen=True, slots=True)
class RequeueAfter:
    """All is as desired for now; run again after `seconds` (a certificate to renew, a lease to extend)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something outside is awaited, and its change will wake this key. `retry_s` is the safety net should the signal get lost.

    `reason` is CamelCase as in a condition, `message` says what is awaited.
    """

    reason: str
    message: str
    retry_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Failed:
    """The reconcile could not do its work and has said so in the object's conditions.

    Without `permanent` the key is run again with growing delays; with it only when the object (or what it watches) changes.
    """

    message: str
    permanent: bool = False


Result: TypeAlias = Done | RequeueAfter | Waiting | Failed
