"""The end of a control plane: nothing of it stays on the host. Never asks the tenant's API, which may be dead.

Also of one whose object was lost without our finalizer having run: restored data, or a finalizer that was removed by hand. Its units
would run on for ever, and its user and its address would be given to others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from pilvi.controlplane import unit_names
from pilvi.host.cloud import Cloud
from pilvi.host.netns import list_netns
from pilvi.host.network import delete_netns
from pilvi.host.units import Units
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.providers.legs import control_plane_unit
from pilvi.tenant import control_planes_dir

__all__ = ["remove_control_plane", "remove_strays"]

log = logging.getLogger(__name__)

# Its data goes away with it, so there is nothing for it to finish.
GRACE_S = 0.0


async def remove_control_plane(cloud: Cloud, units: Units, uid: str) -> None:
    """Stop all units, remove network namespace, data and logs of the TenantControlPlane with this UID; returns when all is gone.

    May be called repeatedly; what is gone already is fine. Raises UnitFailed or OSError; the rest is then removed by the next call.
    """
    await _remove(cloud, units, control_plane_unit(uid))


async def remove_strays(cloud: Cloud, units: Units, uids: Iterable[str]) -> None:
    """Remove every control plane of this cloud whose TenantControlPlane is none of `uids`. Raises as `remove_control_plane`."""
    known = {control_plane_unit(uid) for uid in uids}
    for name in sorted(_list_names(cloud) - known):
        log.info("control plane %s is removed: its TenantControlPlane is gone", name)
        await _remove(cloud, units, name)


async def _remove(cloud: Cloud, units: Units, name: str) -> None:
    await asyncio.gather(*(units.stop(unit, GRACE_S) for unit in unit_names(name)))
    await delete_netns(cloud.netns(name))
    await on_disk(_remove_files, control_planes_dir(cloud) / name, cloud.home / "logs", name)


def _list_names(cloud: Cloud) -> set[str]:
    """What control planes are called that have a namespace (made first of all) or data (removed last)."""
    folder = control_planes_dir(cloud)
    folders = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return folders | {netns.removeprefix(cloud.netns_prefix) for netns in list_netns(cloud.netns("cp-"))}


def _remove_files(data: Path, logs: Path, name: str) -> None:
    remove_tree(data)
    for path in logs.glob(f"{name}-*"):
        path.unlink(missing_ok=True)
