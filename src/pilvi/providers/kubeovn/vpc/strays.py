"""Takes away routers whose Vpc is gone without our finalizer having run: restored data, or a finalizer that was removed by hand."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.host.netns import list_netns
from pilvi.host.network import delete_netns
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubeovn.vpc.resolver import resolver_unit

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units

__all__ = ["remove_strays"]

log = logging.getLogger(__name__)


async def remove_strays(cloud: Cloud, units: Units, vpc_uids: Iterable[str]) -> None:
    """Stop the resolver and delete the namespace of every router of this cloud that belongs to none of `vpc_uids`."""
    prefix = cloud.netns("vpc-")
    known = {prefix + short_hash(uid) for uid in vpc_uids}
    for netns in list_netns(prefix):
        if netns not in known:
            log.info("namespace %s is removed: its Vpc is gone", netns)
            await units.stop(resolver_unit(netns.removeprefix(prefix)))
            await delete_netns(netns)
