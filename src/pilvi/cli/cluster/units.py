"""The processes behind a cluster on this host: its control plane's, its machines', its network's."""

from __future__ import annotations

from collections.abc import Sequence

from pilvi.api import JsonObject
from pilvi.host.units import UnitState
from pilvi.plane.why import unit_prefix
from pilvi.plane.world import World

__all__ = ["units_of"]


def units_of(world: World, cluster: JsonObject, units: Sequence[UnitState]) -> list[UnitState]:
    """Those of `units` that belong to the cluster, by name. Pure."""
    prefixes = {prefix for obj in world.descendants(cluster) if (prefix := unit_prefix(obj))}
    return [unit for unit in units if any(unit.name == prefix or unit.name.startswith(f"{prefix}-") for prefix in prefixes)]
