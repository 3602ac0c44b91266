"""What a machine's process is handed: files and taps, each with the number under which QEMU finds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pilvi.host.units import FIRST_DESCRIPTOR, OpenFile, OpenTap

__all__ = ["Descriptors"]


class Descriptors:
    """Collects them in the order in which the unit opens them; the same plan gives the same numbers."""

    def __init__(self) -> None:
        self._opened: list[OpenFile | OpenTap] = []
        self._in_sets: list[int] = []

    @property
    def opened(self) -> tuple[OpenFile | OpenTap, ...]:
        """What the unit has to open."""
        return tuple(self._opened)

    def number(self, wanted: OpenFile | OpenTap) -> int:
        """The descriptor itself."""
        self._opened.append(wanted)
        return FIRST_DESCRIPTOR + len(self._opened) - 1

    def path(self, wanted: OpenFile) -> str:
        """A path by which all that QEMU opens itself can be named. Its set has the descriptor's number."""
        number = self.number(wanted)
        self._in_sets.append(number)
        return f"/dev/fdset/{number}"

    def proc_path(self, file: Path) -> str:
        """For the few files that QEMU opens past its sets. The user must be allowed to read the file, but need not reach it."""
        return f"/proc/self/fd/{self.number(OpenFile(path=file))}"

    def arguments(self) -> Iterator[str]:
        """The sets, which QEMU makes before it reads any other argument."""
        for number in self._in_sets:
            yield from ("-add-fd", f"fd={number},set={number}")
