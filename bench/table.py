"""The table that a run prints."""

from statistics import median
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One figure, measured once or several times; `floor` likewise and in the same unit, empty where there is none. Times are in seconds,
    memory and what passes in a second in bytes."""

    what: str
    values: list[float]
    floor: list[float]
    unit: Literal["s", "ms", "MB", "MB/s", "%"]


def render(rows: list[Row]) -> str:
    """A Markdown table of medians; `runs` says of how many."""
    lines = ["| what | pilvi | floor | ratio | runs |", "|---|---|---|---|---|"]
    for row in rows:
        value, floor = median(row.values), median(row.floor) if row.floor else None
        # A floor of nearly no CPU makes any ratio large, and says nothing.
        ratio = f"{value / floor:.2f}" if floor and row.unit != "%" else ""
        there = "" if floor is None else _number(floor, row.unit)
        lines.append(f"| {row.what} | {_number(value, row.unit)} | {there} | {ratio} | {len(row.values)} |")
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return {
        "MB": f"{value / 1e6:.0f} MB",
        "MB/s": _short(value / 1e6) + " MB/s",
        "ms": _short(value * 1e3) + " ms",
        "s": f"{value:.2f} s",
        "%": f"{value:.3f} %",
    }[unit]


def _short(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
