"""Takes away routers whose Vpc is gone without our finalizer having run: restored data, or a finalizer that was removed by hand.

A power cut takes the router's namespace and the processes in it, but leaves their files in the home: both are looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.host.netns import list_netns
from pilvi.host.network import delete_netns
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubeovn.vpc.folder import find_folders
from pilvi.providers.kubeovn.vpc.services import remove_services
from pilvi.providers.names import vpc_netns_prefix

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units

__all__ = ["remove_strays"]

log = logging.getLogger(__name__)


async def remove_strays(cloud: Cloud, units: Units, vpc_uids: Iterable[str]) -> None:
    """End the services, with their files, and delete the namespace of every router of this cloud that belongs to none of `vpc_uids`."""
    prefix = vpc_netns_prefix(cloud)
    namespaces = {netns.removeprefix(prefix) for netns in list_netns(prefix)}
    for stray in sorted((namespaces | find_folders(cloud)) - {short_hash(uid) for uid in vpc_uids}):
        log.info("router %s is removed: its Vpc is gone", stray)
        await remove_services(cloud, units, stray)
        if stray in namespaces:
            await delete_netns(prefix + stray)
