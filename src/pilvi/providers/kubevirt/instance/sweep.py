"""Ends machines whose instance is gone: somebody took its finalizer away, or deleted it by force while no engine could see it."""

from __future__ import annotations

import logging

from pilvi.errors import DriverError, UnitFailed
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.runtime import Informers

__all__ = ["MachineSweep"]

log = logging.getLogger(__name__)


class MachineSweep:
    """Compares the machines of all backends with the instances in the cache."""

    def __init__(self, informers: Informers, backends: Backends) -> None:
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
        if failures:
            raise failures[0]
