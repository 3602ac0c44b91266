"""The resolver of one VPC: a dnsmasq in the router's namespace that knows the machines and the cloud's registry, and asks the host's
nameservers for the rest.

It answers on the gateway of every subnet, also of those that come later, since it binds to all addresses of its namespace. Machines and
nameservers stand in two files that it reads again when it gets SIGHUP. So its command line never changes, and nothing that happens
in the VPC restarts it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.api.registry import REGISTRY_HOST
from pilvi.host.cgroups.limits import CgroupLimits
from pilvi.host.units import TcpProbe, UnitSpec
from pilvi.lib.hashing import short_hash
from pilvi.providers.attachments import ip_key, split_ip_name
from pilvi.providers.kubeovn.vpc.folder import log_path, services_uid, vpc_folder, write_changed
from pilvi.providers.kubeovn.vpc.router import Machine, Router
from pilvi.providers.names import vpc_netns

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units

__all__ = [
    "Resolver",
    "hosts_file",
    "parse_nameservers",
    "read_nameservers",
    "registry_line",
    "resolver_unit",
    "servers_file",
]

# What programs on the host use, and, where that is only a local stub, what systemd-resolved uses itself.
_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_READY_TIMEOUT_S = 10.0


def resolver_unit(vpc_hash: str) -> str:
    """Name of the unit, from the hash of the Vpc's UID."""
    return f"vpc-{vpc_hash}-dns"


def parse_nameservers(text: str) -> tuple[IPv4Address, ...]:
    """The nameservers in a resolv.conf that a VPC can reach: IPv4, not on loopback, each once."""
    found: dict[IPv4Address, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = IPv4Address(words[1])
        except AddressValueError:
            continue
        if not address.is_loopback and not address.is_unspecified:
            found[address] = None
    return tuple(found)


def read_nameservers(paths: Iterable[Path] = _RESOLV_CONF) -> tuple[IPv4Address, ...]:
    """The host's nameservers, from the first file that names one; none when there is none."""
    for path in paths:
        try:
            found = parse_nameservers(path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            continue
        if found:
            return found
    return ()


def hosts_file(machines: Iterable[Machine]) -> str:
    """One line for each machine, as in /etc/hosts: its address and its names. `<machine>.<namespace>` is its address in the pod network
    where that is in this VPC, else its first one here.
    """
    found = sorted(machines)
    known, lines = {machine.name for machine in found}, []
    for machine in found:
        short = ip_key(split_ip_name(machine.name)[0]).name
        names = [machine.name] if short in known else [machine.name, short]
        known.add(short)
        lines.append(f"{machine.address} {' '.join(names)}\n")
    return "".join(lines)


def registry_line(address: IPv4Address) -> str:
    """The line for the cloud's registry, which is at the platform's address."""
    return f"{address} {REGISTRY_HOST}\n"


def servers_file(nameservers: Iterable[IPv4Address]) -> str:
    """One line for each nameserver, in dnsmasq's words. Nobody outside is asked for the registry: a client that wants an IPv6 address of it
    would wait for the answer, and so for ever in a cloud without a way out.
    """
    return "".join((f"server=/{REGISTRY_HOST}/\n", *(f"server={nameserver}\n" for nameserver in nameservers)))


class Resolver:
    """The unit and the files of one VPC's resolver. All methods may be called repeatedly."""

    def __init__(self, cloud: Cloud, units: Units, vpc_uid: str) -> None:
        self._units = units
        unit = resolver_unit(short_hash(vpc_uid))
        self._folder = vpc_folder(cloud, short_hash(vpc_uid))
        self._hosts = self._folder / "hosts"
        self._servers = self._folder / "servers"
        self._told: tuple[str, str] | None = None
        self._registry = registry_line(cloud.platform_address.ip)
        uid = services_uid(cloud)
        self.spec = UnitSpec(
            name=unit,
            argv=(
                "/usr/sbin/dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file=",
                "--log-facility=-",
                "--no-resolv",
                "--no-hosts",
                f"--addn-hosts={self._hosts}",
                f"--servers-file={self._servers}",
                "--interface=sn*",
                "--cache-size=1000",
            ),
            log_path=log_path(cloud, unit),
            netns=vpc_netns(cloud, vpc_uid),
            uid=uid,
            gid=uid,
            cgroup=CgroupLimits(memory_bytes=64 * 1024 * 1024, pids=32),
            ready=TcpProbe(host="127.0.0.1", port=53),
            stop_grace_s=2.0,
        )

    async def ensure(self, router: Router, nameservers: Iterable[IPv4Address]) -> None:
        """Have it run with these names. Raises UnitFailed when it does not start, and OSError when the files cannot be written."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        wanted = (self._registry + hosts_file(router.machines), servers_file(nameservers))
        for path, text in zip((self._hosts, self._servers), wanted, strict=True):
            write_changed(path, text)
        before = self._units.state(self.spec.name).pid
        state = await self._units.ensure(self.spec)
        # First, since one that was restarted a moment ago has no handler for the signal yet, and would end by it.
        await self._units.wait_ready(self.spec.name, _READY_TIMEOUT_S)
        # Nothing told yet: an engine that died between writing and telling leaves a process with old names.
        if wanted != self._told and state.pid is not None and state.pid == before:
            os.kill(state.pid, signal.SIGHUP)
        self._told = wanted
