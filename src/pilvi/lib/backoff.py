"""Growing delays between attempts, with jitter so that many retries do not meet."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Delays `initial_s`, `initial_s * factor`, ... up to `max_s`, each shortened by up to `jitter` (a share, 0 to 1) at random.

    `failures` counts the calls of `next_s` since the last `reset`.
    """

    __slots__ = ("factor", "failures", "initial_s", "jitter", "max_s")

    def __init__(self, initial_s: float = 0.1, max_s: float = 60.0, *, factor: float = 2.0, jitter: float = 0.25) -> None:
        self.initial_s = initial_s
        self.max_s = max_s
        self.factor = factor
        self.jitter = jitter
        self.failures = 0

    def next_s(self) -> float:
        """Count one more failure and return how long to wait before the next attempt, in seconds."""
        # The exponent is bounded, or a unit that fails for weeks would overflow the float.
        full = min(self.max_s, self.initial_s * self.factor ** min(self.failures, 64))
        self.failures += 1
        return full * (1.0 - self.jitter * random.random())  # noqa: S311 (spreading load, not keeping secrets)

    def reset(self) -> None:
        """After a success: the next failure starts with `initial_s` again."""
        self.failures = 0
