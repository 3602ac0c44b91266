"""The time line of a cluster, read from wherever its times stand, and drawn: one bar for each phase."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pilvi.api import Key
from pilvi.api.builtin import CLUSTERS
from pilvi.cli.connection import find_units, get_tenant, parse
from pilvi.errors import UserError
from pilvi.kube import Client
from pilvi.plane.timeline import Inside, Phase, compute_timeline, read_inside
from pilvi.plane.world import World

__all__ = ["draw_timeline", "read_timeline"]

_WIDTH = 48
_TENANT_TIMEOUT_S = 3.0


async def read_timeline(client: Client, world: World, cluster: Key, home: Path) -> list[Phase]:
    """The phases of a cluster of this world that are known to this user; none for a cluster that is gone."""
    obj = world.find(CLUSTERS, cluster)
    if obj is None:
        return []
    try:
        async with Client.open(parse(await get_tenant(client, cluster)), timeout_s=_TENANT_TIMEOUT_S) as tenant:
            inside = await read_inside(tenant)
    except UserError:
        inside = Inside()  # no kubeconfig yet
    return compute_timeline(world, obj, inside, find_units(home))


def draw_timeline(phases: Sequence[Phase]) -> list[str]:
    """Lines with name, duration and a bar that stands where the phase was in the whole. Pure but for colours.

    A duration has a fraction where the times have one.
    """
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
        lines.append(f"  {phase.name.ljust(names)}  {bar} {_seconds(phase)} s")
    lines.append(f"  {'in all'.ljust(names)}  {' ' * _WIDTH} {_whole(total)} s")
    return lines


def _seconds(phase: Phase) -> str:
    return f"{phase.seconds:5.1f}" if phase.is_exact else _whole(phase.seconds)


def _whole(seconds: float) -> str:
    """As long as a number with one decimal, so that units stand below each other."""
    return f"{f'{seconds:.0f}' if seconds >= 0.5 else '<1':>3}  "
