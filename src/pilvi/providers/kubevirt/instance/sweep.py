"""Ends machines whose instance is gone: somebody took its finalizer away, or deleted it by force while no engine could see it.

What was kept for VirtualMachines and in their snapshots that are gone in the same way goes too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.errors import DriverError, UnitFailed
from pilvi.lib.disk import on_disk
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.folder import list_kept_folders, remove_kept
from pilvi.providers.kubevirt.snapshot.kinds import CONTENTS
from pilvi.runtime import Informers

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["MachineSweep"]

log = logging.getLogger(__name__)


class MachineSweep:
    """Compares the machines of all backends with the instances in the cache."""

    def __init__(self, cloud: Cloud, informers: Informers, backends: Backends) -> None:
        self._cloud = cloud
        self._machines = informers.get(MACHINES)
        self._contents = informers.get(CONTENTS)
        self._instances = informers.get(INSTANCES)
        self._instances.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])
        self._backends = backends

    async def run(self) -> None:
        """Remove every machine that no instance stands for. Waits until the cache has listed once: an empty one proves nothing.

        Raises the first UnitFailed, DriverError or OSError; the other machines have been removed then.
        """
        await self._instances.synced.wait()
        failures: list[Exception] = []
        for uid in await self._backends.list_uids():
            if not self._instances.by_index("uid", uid):
                log.info("machine=%s is removed: its VirtualMachineInstance is gone", uid)
                try:
                    await self._backends.stop(uid, 0)
                    await self._backends.remove(uid)
                except (UnitFailed, DriverError, OSError) as e:
                    failures.append(e)
        await self._sweep_kept()
        if failures:
            raise failures[0]

    async def _sweep_kept(self) -> None:
        owners = (self._machines, self._contents)
        for informer in owners:
            await informer.synced.wait()
        present = {obj["metadata"]["uid"] for informer in owners for obj in informer.list()}
        for uid in list_kept_folders(self._cloud):
            if uid not in present:
                await on_disk(remove_kept, self._cloud, uid)
