"""How far a transfer is, written by who does it and read by who reports it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Meter"]


@dataclass(slots=True)
class Meter:
    """What is being done, and bytes done of bytes in all; `total` is None while nobody knows it."""

    step: str = ""
    done: int = 0
    total: int | None = None

    def begin(self, step: str, total: int | None = None, done: int = 0) -> None:
        """The next step starts."""
        self.step, self.done, self.total = step, done, total

    @property
    def share(self) -> float | None:
        """0 to 1, or None when it is not known."""
        return min(1.0, self.done / self.total) if self.total else None
