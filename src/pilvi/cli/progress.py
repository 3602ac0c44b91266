"""Progress of what takes longer than a second: a live line on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Waiting"]

_FIRST_S = 1.0  # what is over by then leaves no plain line
_PLAIN_INTERVAL_S = 15.0
_LIVE_INTERVAL_S = 0.1


class Waiting:
    """Shows what is awaited and for how many seconds. Each finished step leaves one line.

    A thread keeps the seconds going, so that it also works around calls that block.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._text = ""
        self._of = ""
        self._started = 0.0
        self._next_line = 0.0
        self._drawn = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.hide()

    def show(self, text: str, of: str = "") -> None:
        """Say that `text` is awaited now. The same text again changes nothing.

        `of` names a wait whose text changes while it lasts: its seconds count from the first text on.
        """
        with self._lock:
            wait = of or text
            if wait != self._of:
                self._of, self._started = wait, time.monotonic()
                self._next_line = self._started + _FIRST_S
            self._text = text

    def hide(self) -> None:
        """Nothing is awaited now."""
        with self._lock:
            self._text = self._of = ""
            self._erase()

    def done(self, text: str, seconds: float) -> None:
        """Say that `text` is done and how long it took."""
        self.line(f"  ✓ {text} ({seconds:.1f} s)")

    def line(self, text: str) -> None:
        """Print one line that stays."""
        with self._lock:
            self._erase()
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def _tick(self) -> None:
        while not self._ended.wait(_LIVE_INTERVAL_S):
            with self._lock:
                self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        if not self._text or now - self._started < (0.2 if self._live else _FIRST_S):
            return
        text = f"  … {self._text} ({now - self._started:.0f} s)"
        if self._live:
            self._erase()
            sys.stderr.write(text[: _columns()])
            sys.stderr.flush()
            self._drawn = True
        elif now >= self._next_line:
            self._next_line = now + _PLAIN_INTERVAL_S
            self.line(text)

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._drawn = False


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1
