"""The time line of a cluster, drawn: one bar for each phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pilvi.plane.timeline import Phase

__all__ = ["draw_timeline"]

_WIDTH = 48


def draw_timeline(phases: Sequence[Phase]) -> list[str]:
    """Lines with name, duration and a bar that stands where the phase was in the whole. Pure but for colours."""
    if not phases:
        return []
    start = min(phase.started_at for phase in phases)
    total = max(max(phase.ended_at for phase in phases) - start, 0.001)
    names = max(len(phase.name) for phase in phases)
    lines = []
    for phase in phases:
        left = min(_WIDTH - 1, round((phase.started_at - start) / total * _WIDTH))
        length = min(_WIDTH - left, max(1, round(phase.seconds / total * _WIDTH)))
        bar = " " * left + click.style("━" * length, fg="cyan") + " " * (_WIDTH - left - length)
        lines.append(f"  {phase.name.ljust(names)}  {bar} {phase.seconds:5.1f} s")
    lines.append(f"  {'in all'.ljust(names)}  {' ' * _WIDTH} {total:5.1f} s")
    return lines
