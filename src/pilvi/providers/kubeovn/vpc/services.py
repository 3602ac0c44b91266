"""What runs in a router's namespace: resolver and DHCP, made and taken away together."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.lib.files import remove_tree
from pilvi.lib.hashing import short_hash
from pilvi.lib.together import together
from pilvi.providers.kubeovn.vpc.dhcp import Dhcp, dhcp_unit
from pilvi.providers.kubeovn.vpc.folder import log_path, vpc_folder
from pilvi.providers.kubeovn.vpc.resolver import Resolver, resolver_unit
from pilvi.providers.kubeovn.vpc.router import Router

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units

__all__ = ["Services", "remove_services"]


class Services:
    """The services of one Vpc. All methods may be called repeatedly."""

    def __init__(self, cloud: Cloud, units: Units, vpc_uid: str) -> None:
        self._cloud = cloud
        self._units = units
        self._hash = short_hash(vpc_uid)
        self._resolver = Resolver(cloud, units, vpc_uid)
        self._dhcp = Dhcp(cloud, units, vpc_uid)
        self.names = (resolver_unit(self._hash), dhcp_unit(self._hash))

    async def ensure(self, router: Router, nameservers: Iterable[IPv4Address]) -> None:
        """Have them do what the router says. Raises UnitFailed when one does not start, OSError when a file cannot be written."""
        await together(self._resolver.ensure(router, nameservers), self._dhcp.ensure(router))

    async def remove(self) -> None:
        """Stop them and remove their files and logs."""
        await remove_services(self._cloud, self._units, self._hash)


async def remove_services(cloud: Cloud, units: Units, vpc_hash: str) -> None:
    """Stop the services of a Vpc, known by the hash of its UID, and remove their files and logs; may be called repeatedly."""
    for unit in (resolver_unit(vpc_hash), dhcp_unit(vpc_hash)):
        await units.stop(unit)
        log = log_path(cloud, unit)
        for path in log.parent.glob(f"{log.name}*"):
            path.unlink(missing_ok=True)
    remove_tree(vpc_folder(cloud, vpc_hash))  # last, as it is what `find_folders` looks for
