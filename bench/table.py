"""The table that a run prints."""

from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One figure; `floor` in the same unit. Megabytes are given in bytes."""

    what: str
    value: float
    floor: float | None
    unit: Literal["s", "MB", "%"]


def render(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = ["| what | pilvi | floor | ratio |", "|---|---|---|---|"]
    for row in rows:
        ratio = f"{row.value / row.floor:.2f}" if row.floor else ""
        lines.append(f"| {row.what} | {_number(row.value, row.unit)} | {_number(row.floor, row.unit) if row.floor else ''} | {ratio} |")
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return f"{value / 1e6:.0f} MB" if unit == "MB" else f"{value:.2f} {unit}"
