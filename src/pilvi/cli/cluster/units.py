"""A cluster with all that belongs to it, and the processes behind it on this host: of control plane, machines, network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS
from pilvi.cli.connection import open_platform
from pilvi.cli.progress import Waiting
from pilvi.errors import UserError
from pilvi.host.units import UnitState
from pilvi.plane.why import unit_prefix
from pilvi.plane.world import World, read_world

__all__ = ["read_cluster", "units_of"]


async def read_cluster(home: Path, key: Key, timeout_s: float) -> tuple[World, JsonObject]:
    """The objects around the cluster, and its Cluster. Raises UserError, also when there is none of that name, and TimedOut."""
    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            world = await read_world(client, key.namespace)
    cluster = world.find(CLUSTERS, key)
    if cluster is None:
        raise UserError(f"there is no cluster {key}", hint="pilvi cluster list")
    return world, cluster


def units_of(world: World, cluster: JsonObject, units: Sequence[UnitState]) -> list[UnitState]:
    """Those of `units` that belong to the cluster, by name. Pure."""
    prefixes = {prefix for obj in world.descendants(cluster) if (prefix := unit_prefix(obj))}
    return [unit for unit in units if any(unit.name == prefix or unit.name.startswith(f"{prefix}-") for prefix in prefixes)]
