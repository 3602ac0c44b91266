"""DHCP of one VPC: a dnsmasq of its own, for the machines that are not given their address by the host.

A machine gets the address of its IP object on the MAC of that object, at the bridge of its Subnet, and nobody else gets anything. Beside
it it learns its Subnet's gateway, which is also its nameserver, the size of packets, its host name, and its namespace as domain: the
resolver knows machines as `<machine>.<namespace>`, so those of one namespace find each other by their names alone. In a network that is
not its way out it learns gateway, nameserver and domain only where the Subnet's `dhcpV4Options` name them: a machine has one way out.

There is no state. A configuration is a pure function of the router, and one that changes replaces the process. It is away for 60 to 95 ms
then (measured), and a client that asks meanwhile asks again; leases are nowhere recorded, and who renews one gets it again, since
addresses are not this server's to choose. So it is a process beside the resolver, whose clients would take such a pause for an error,
and none where all machines are sandboxes. Telling dnsmasq 2.90 by SIGHUP instead ends it by SIGSEGV: reading reservations with `set:`
again, it frees what was on its stack while it answered. And it would keep an address for 999 days for a machine that is deleted.

It has its own user and no power over the router: it refuses to start without CAP_NET_ADMIN, which it would use to enter neighbours by
hand, but one that is hollow will do, since it answers by broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pilvi.host.cgroups.limits import CgroupLimits
from pilvi.host.units import TcpProbe, UnitSpec
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubeovn.vpc.folder import log_path, services_uid, vpc_folder, write_changed
from pilvi.providers.kubeovn.vpc.router import Machine, Router
from pilvi.providers.names import vpc_netns

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units
    from pilvi.providers.kubeovn.subnet.plan import SubnetPlan

__all__ = ["Dhcp", "dhcp_config", "dhcp_unit"]

_CAP_NET_ADMIN = 12
_READY_TIMEOUT_S = 10.0
# Its DNS, which no packet filter lets anybody ask, is there to see that it runs.
_PROBED_PORT = 5300
# These have no names for dnsmasq.
_BROADCAST, _HOST_NAME = "28", "12"

_COMMON = """\
interface=sn*
no-resolv
no-hosts
log-facility=-
quiet-dhcp
dhcp-ignore=tag:!known
# Clones of one disk have one client identifier; the MAC alone says who it is.
dhcp-ignore-clid
# A lease that is not known, as after a restart, is granted again at once.
dhcp-authoritative
leasefile-ro
dhcp-lease-max=1000000
dhcp-broadcast
no-ping
"""


def dhcp_unit(vpc_hash: str) -> str:
    """Name of the unit, from the hash of the Vpc's UID."""
    return f"vpc-{vpc_hash}-dhcp"


def dhcp_config(router: Router) -> str | None:
    """The configuration, as dnsmasq reads it; None when no machine asks."""
    machines = [machine for machine in router.machines if machine.virtual and machine.mac is not None]
    if not machines:
        return None
    bridges = {machine.bridge for machine in machines}
    subnets = {subnet.bridge: subnet for subnet in router.subnets if subnet.bridge in bridges}
    lines = [f"port={_PROBED_PORT}\n", _COMMON]
    for subnet in subnets.values():
        lines.append(f"dhcp-range={subnet.cidr.network_address},static,{subnet.cidr.netmask}\n")
        lines += _options(subnet.bridge, _of_subnet(subnet))
    for machine in machines:
        subnet = subnets[machine.bridge]
        # A MAC counts only on the bridge of its machine's Subnet: the link on which a request came in is a tag.
        lines.append(f"dhcp-host={machine.mac},tag:{machine.bridge},set:{_tag(machine)},{machine.address},{subnet.dhcp.lease_s}\n")
        lines += _options(_tag(machine), _of_machine(machine, subnet))
    return "".join(lines)


def _of_subnet(subnet: SubnetPlan) -> dict[str, str]:
    return {_BROADCAST: str(subnet.cidr.broadcast_address), "option:mtu": str(subnet.dhcp.mtu or subnet.mtu)}


def _of_machine(machine: Machine, subnet: SubnetPlan) -> dict[str, str]:
    wanted, told = subnet.dhcp, machine.told
    router, servers, domain = wanted.router, wanted.dns_servers, wanted.domain
    if machine.is_way_out:
        router, servers, domain = router or subnet.gateway, servers or (subnet.gateway,), domain or machine.namespace
    options = {
        # Not as part of the reservation, where a name such as 12 or 1d is the time of a lease.
        _HOST_NAME: f'"{machine.hostname}"',
        # Also without a value: dnsmasq tells its own address as both unless it is told not to.
        "option:router": str(router or ""),
        "option:dns-server": _join(servers),
    }
    if domain:
        options |= {"option:domain-name": domain, "option:domain-search": domain}
    if ntp_servers := told.ntp_servers or wanted.ntp_servers:
        options["option:ntp-server"] = _join(ntp_servers)
    if told.next_server is not None:
        options["option:server-ip-address"] = str(told.next_server)
    return options | {number: f'"{text}"' for number, text in told.texts}


def _options(tag: str, options: dict[str, str]) -> list[str]:
    return [f"dhcp-option=tag:{tag},{option}{',' if value else ''}{value}\n" for option, value in options.items()]


def _join(addresses: Iterable[IPv4Address]) -> str:
    return ",".join(map(str, addresses))


def _tag(machine: Machine) -> str:
    return f"ip-{str(machine.address).replace('.', '-')}"


_CONFIG = "dhcp.conf"


class Dhcp:
    """The unit and the file of one VPC's DHCP. All methods may be called repeatedly."""

    def __init__(self, cloud: Cloud, units: Units, vpc_uid: str) -> None:
        self._units = units
        self.unit = dhcp_unit(short_hash(vpc_uid))
        self._folder = vpc_folder(cloud, short_hash(vpc_uid))
        self._log = log_path(cloud, self.unit)
        self._netns = vpc_netns(cloud, vpc_uid)
        self._uid = services_uid(cloud)

    async def ensure(self, router: Router) -> None:
        """Have it serve these machines, or be away. Raises UnitFailed when it does not start, OSError when its file cannot be written."""
        config = dhcp_config(router)
        if config is None:
            if self._units.state(self.unit).state != "absent":
                await self._units.stop(self.unit)
            (self._folder / _CONFIG).unlink(missing_ok=True)
            return
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = self._folder / _CONFIG
        write_changed(path, config)
        await self._units.ensure(
            UnitSpec(
                name=self.unit,
                argv=("/usr/sbin/dnsmasq", "--keep-in-foreground", "--pid-file=", f"--conf-file={path}"),
                # It is another unit when the file says something else.
                env={"CONFIGURATION": short_hash(config)},
                log_path=self._log,
                netns=self._netns,
                uid=self._uid,
                gid=self._uid,
                hollow_capabilities=(_CAP_NET_ADMIN,),
                cgroup=CgroupLimits(memory_bytes=64 * 1024 * 1024, pids=32),
                ready=TcpProbe(host="127.0.0.1", port=_PROBED_PORT),
                stop_grace_s=2.0,
            )
        )
        await self._units.wait_ready(self.unit, _READY_TIMEOUT_S)
