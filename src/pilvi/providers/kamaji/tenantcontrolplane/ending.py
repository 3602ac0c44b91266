"""The end of a control plane: nothing of it stays on the host. Never asks the tenant's API, which may be dead."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pilvi.controlplane import unit_names
from pilvi.host.cloud import Cloud
from pilvi.host.network import delete_netns
from pilvi.host.units import Units
from pilvi.lib.files import remove_tree
from pilvi.providers.legs import control_plane_netns, control_plane_unit
from pilvi.tenant import control_plane_dir

__all__ = ["remove_control_plane"]

# Its data goes away with it, so there is nothing for it to finish.
GRACE_S = 0.0


async def remove_control_plane(cloud: Cloud, units: Units, uid: str) -> None:
    """Stop all units, remove network namespace, data and logs of the TenantControlPlane with this UID; returns when all is gone.

    May be called repeatedly; what is gone already is fine. Raises UnitFailed or OSError; the rest is then removed by the next call.
    """
    name = control_plane_unit(uid)
    await asyncio.gather(*(units.stop(unit, GRACE_S) for unit in unit_names(name)))
    await delete_netns(control_plane_netns(cloud, uid))
    await asyncio.to_thread(_remove_files, control_plane_dir(cloud, uid), cloud.home / "logs", name)


def _remove_files(data: Path, logs: Path, name: str) -> None:
    remove_tree(data)
    for path in logs.glob(f"{name}-*"):
        path.unlink(missing_ok=True)
