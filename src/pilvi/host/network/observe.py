"""What the kernel has in one namespace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from pilvi.errors import DriverError
from pilvi.host.netns import in_netns
from pilvi.host.network.model import OUR_PROTOCOL, Observed, ObservedAddress, ObservedLink, Route
from pilvi.host.network.netlink import NO_SUCH_LINK, netlink

__all__ = ["dump", "find_link", "observe", "observe_links", "sysctl_path"]

_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_DUMP_ROUNDS = 10
_AF_INET, _MAIN_TABLE, _UNICAST, _SCOPE_LINK, _UP = 2, 254, 1, 253, 1


async def observe(netns: str | None, sysctls: Iterable[str] = ()) -> Observed:
    """Links, addresses, our routes, and the values of the named settings. Raises FileNotFoundError without such a namespace."""
    async with netlink(netns) as ip:
        links = await observe_links(ip)
        names = {link.index: link.name for link in links.values()}
        addresses = [_address(message, names) for message in await dump(ip.addr, family=_AF_INET)]
        routes = [
            _route(message, names)
            for message in await dump(ip.route, family=_AF_INET, table=_MAIN_TABLE)
            if _table(message) == _MAIN_TABLE and message["type"] == _UNICAST and message["proto"] == OUR_PROTOCOL
        ]
    return Observed(links=links, addresses=tuple(addresses), routes=tuple(routes), sysctls=_read_sysctls(netns, sysctls))


async def observe_links(ip: Any) -> dict[str, ObservedLink]:
    """All links of the namespace that `ip` (an AsyncIPRoute) is in, by name."""
    messages = await dump(ip.link)
    names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
    return {link.name: link for link in (_link(message, names) for message in messages)}


async def find_link(ip: Any, name: str) -> ObservedLink | None:
    """One link of the namespace that `ip` is in, or None; cheaper than all of them."""
    found = await _get_link(ip, ifname=name)
    if found is None:
        return None
    index = found.get_attr("IFLA_MASTER")
    master = await _get_link(ip, index=index) if index else None
    return _link(found, {index: master.get_attr("IFLA_IFNAME")} if master is not None else {})


async def dump(request: Callable[..., Awaitable[Any]], **filters: Any) -> list[Any]:
    """All that the kernel lists. Read again when something changed between two pieces of the list: it may lack what has always been there.

    Raises DriverError when the list never stays as it is for long enough.
    """
    for _ in range(_DUMP_ROUNDS):
        messages = [message async for message in await request("dump", **filters)]
        if not any(message["header"]["flags"] & _INTERRUPTED for message in messages):
            return messages
    raise DriverError(("ip",), 1, "", "the kernel's list of links, addresses or routes changes faster than it can be read")


def sysctl_path(name: str) -> Path:
    """The file of a setting. Link names may hold dots, so a slash as separator is taken as it is."""
    return Path("/proc/sys") / (name if "/" in name else name.replace(".", "/"))


async def _get_link(ip: Any, **which: Any) -> Any | None:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        return next(iter(await ip.link("get", **which)), None)
    except NetlinkError as e:
        if e.code in NO_SUCH_LINK:
            return None
        raise DriverError(("ip", "link", "show"), e.code, "", f"the kernel does not show link {which}: {e.args[1]}") from e


def _link(message: Any, names: dict[int, str]) -> ObservedLink:
    info = message.get_attr("IFLA_LINKINFO")
    master = message.get_attr("IFLA_MASTER")
    return ObservedLink(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=(info.get_attr("IFLA_INFO_KIND") if info is not None else None) or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _UP),
        master=names.get(master) if master else None,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        peer=message.get_attr("IFLA_LINK"),
        peer_netns=message.get_attr("IFLA_LINK_NETNSID"),
    )


def _address(message: Any, names: dict[int, str]) -> ObservedAddress:
    local = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ObservedAddress(
        names.get(message["index"], ""), IPv4Interface((local, message["prefixlen"])), message.get_attr("IFA_PROTO") or 0
    )


def _route(message: Any, names: dict[int, str]) -> Route:
    via, src, out = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_PREFSRC"), message.get_attr("RTA_OIF")
    return Route(
        prefix=IPv4Network((message.get_attr("RTA_DST") or "0.0.0.0", message["dst_len"])),  # noqa: S104 - the default route
        via=IPv4Address(via) if via else None,
        dev=names.get(out, ""),
        src=IPv4Address(src) if src else None,
        scope="link" if message["scope"] == _SCOPE_LINK else "global",
    )


def _table(message: Any) -> int:
    return int(message.get_attr("RTA_TABLE") or message["table"])


def _read_sysctls(netns: str | None, names: Iterable[str]) -> dict[str, str]:
    """The files below /proc/sys/net show the namespace of the thread that opens them; they never wait for I/O."""
    values = {}
    with in_netns(netns):
        for name in names:
            try:
                values[name] = sysctl_path(name).read_text(encoding="ascii").strip()
            except FileNotFoundError:
                continue
    return values
