"""Makes the kernel have what is wanted. Every function may be called repeatedly and by several callers at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import Any, BinaryIO

from pilvi.errors import Bug, DriverError, UserError
from pilvi.host.netns import has_netns, in_netns, netns_path, unmount_netns
from pilvi.host.network.model import LINK_PROTOCOL, OUR_PROTOCOL, NamespaceNetwork, ObservedLink, Route, Veth, VethEnd
from pilvi.host.network.netlink import NO_SUCH_LINK, netlink, refused
from pilvi.host.network.observe import dump, find_link, observe, observe_links, sysctl_path
from pilvi.host.network.plan import (
    BRIDGE_ALIAS,
    Action,
    AddAddress,
    AddBridge,
    AddRoute,
    DeleteLink,
    RemoveAddress,
    RemoveRoute,
    SetLink,
    SetSysctl,
    plan,
    plan_link,
)
from pilvi.lib.hashing import short_hash

__all__ = ["apply_link", "delete_link", "delete_netns", "ensure_network", "ensure_veth", "list_links"]

log = logging.getLogger(__name__)

_ROUNDS = 4
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, *NO_SUCH_LINK)
_NO_SUCH_ROUTE = (errno.ESRCH, *NO_SUCH_LINK)


async def ensure_network(desired: NamespaceNetwork) -> None:
    """Make the namespace be as described; nothing happens when it is so already.

    Raises FileNotFoundError when there is no such namespace, DriverError when the kernel refuses something. After a failure a part may be
    done; the next call goes on from there.
    """
    for _ in range(_ROUNDS):
        actions = plan(desired, await observe(desired.netns, desired.sysctls))
        if not actions:
            return
        async with netlink(desired.netns) as ip:
            for action in actions:
                log.debug("namespace %s: %s", desired.netns or "of the host", action)
                await _apply(ip, desired.netns, action)
    actions = plan(desired, await observe(desired.netns, desired.sysctls))
    if actions:
        raise DriverError(
            ("ip",), 1, "", f"network of namespace {desired.netns or 'of the host'} does not settle; still to do: {actions[0]}"
        )


async def ensure_veth(veth: Veth) -> None:
    """Make the pair and both its ends be as described; an end that is something else, or half of another pair, is replaced.

    Raises FileNotFoundError when a namespace is missing, DriverError when the kernel refuses something.
    """
    async with netlink(veth.a.netns) as ip_a, netlink(veth.b.netns) as ip_b:
        # By name, since a list that changes while it is read may lack a link, and a healthy pair would be taken apart.
        a, b = await find_link(ip_a, veth.a.name), await find_link(ip_b, veth.b.name)
        if not await _are_pair(ip_a, a, b, veth):
            # The peer of a left-over end disappears with it, so the second deletion may find nothing.
            for ip, end, link in ((ip_a, veth.a, a), (ip_b, veth.b, b)):
                if link is not None:
                    await _delete(ip, end.netns, link.name)
            await _add_veth(ip_a, veth)
        await _ensure_end(ip_a, veth.a, veth.mtu)
        await _ensure_end(ip_b, veth.b, veth.mtu)


async def delete_link(netns: str | None, name: str) -> None:
    """Delete a link (of a veth pair: both ends). A link or namespace that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        async with netlink(netns) as ip:
            await _delete(ip, netns, name)


async def delete_netns(name: str) -> None:
    """Remove the namespace; returns when none of its links is left anywhere.

    Links are deleted one by one first, because the kernel takes apart a namespace later, in its own time, and until then the other
    ends of its veth pairs would still be seen. A process that is still in it keeps an empty namespace alive.
    """
    if has_netns(name):
        async with netlink(name) as ip:
            for link in (await observe_links(ip)).values():
                if link.kind and link.name != "lo":
                    # EOPNOTSUPP: tunnels that the kernel makes with each namespace (such as tunl0) end only with it.
                    await _delete(ip, name, link.name, ignore=(errno.EOPNOTSUPP,))
    await unmount_netns(name)


async def list_links(netns: str | None, prefix: str = "") -> list[ObservedLink]:
    """All links of a namespace whose names begin with `prefix`."""
    async with netlink(netns) as ip:
        return [link for name, link in sorted((await observe_links(ip)).items()) if name.startswith(prefix)]


async def _apply(ip: Any, netns: str | None, action: Action) -> None:
    match action:
        case AddBridge(bridge=bridge):
            mac = bridge.mac or _stable_mac(netns, bridge.name)
            with refused(f"link add name {bridge.name} type bridge", netns, ignore=(errno.EEXIST,)):
                await ip.link("add", ifname=bridge.name, kind="bridge", mtu=bridge.mtu, br_forward_delay=0, address=mac)
            with refused(f"link set {bridge.name} up alias {BRIDGE_ALIAS}", netns):
                await ip.link("set", index=await _index(ip, netns, bridge.name), state="up", ifalias=BRIDGE_ALIAS)
        case SetLink():
            await apply_link(ip, netns, action)
        case DeleteLink(name=name):
            await _delete(ip, netns, name)
        case AddAddress(link=link, address=address, protocol=protocol):
            index = await _index(ip, netns, link)
            with refused(f"address add {address} dev {link}", netns, ignore=(errno.EEXIST,)):
                await ip.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, proto=protocol)
        case RemoveAddress(link=link, address=address):
            index = await _index(ip, netns, link)
            with refused(f"address del {address} dev {link}", netns, ignore=_NO_SUCH_ADDRESS):
                await ip.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
        case AddRoute(route=route, replace=replace):
            with refused(f"route {'replace' if replace else 'add'} {_route_words(route)}", netns):
                await ip.route("replace" if replace else "add", **await _route(ip, netns, route))
        case RemoveRoute(route=route):
            with refused(f"route del {_route_words(route)}", netns, ignore=_NO_SUCH_ROUTE):
                await ip.route("del", **await _route(ip, netns, route))
        case SetSysctl(name=name, value=value):
            # In a thread: some settings wait for the kernel's one lock over all links.
            await asyncio.to_thread(_write_sysctl, netns, name, value)


async def apply_link(ip: Any, netns: str | None, change: SetLink) -> None:
    """Change one link of the namespace that `ip` is in. Raises DriverError when the kernel refuses."""
    values: dict[str, Any] = {}
    if change.mac is not None:
        values["address"] = change.mac
    if change.mtu is not None:
        values["mtu"] = change.mtu
    if change.master is not None:
        values["master"] = await _index(ip, netns, change.master) if change.master else 0
    if change.up is not None:
        values["state"] = "up" if change.up else "down"
    with refused(f"link set {change.name} {values}", netns):
        await ip.link("set", index=await _index(ip, netns, change.name), **values)


async def _add_veth(ip: Any, veth: Veth) -> None:
    """One message makes both ends, each in its namespace: a crash never leaves half of a pair."""
    values: dict[str, Any] = {"ifname": veth.a.name, "kind": "veth", "mtu": veth.mtu}
    peer: dict[str, Any] = {"ifname": veth.b.name, "mtu": veth.mtu}
    if veth.a.mac:
        values["address"] = veth.a.mac
    if veth.b.mac:
        peer["address"] = veth.b.mac
    with _open_netns(veth.b.netns) as other, refused(f"link add name {veth.a.name} type veth peer {veth.b.name}", veth.a.netns):
        await ip.link("add", peer={**peer, "net_ns_fd": other.fileno()}, **values)


async def _ensure_end(ip: Any, end: VethEnd, mtu: int) -> None:
    link = await find_link(ip, end.name)
    if link is None:
        raise DriverError(
            ("ip", "link", "show", end.name), 1, "", f"link {end.name} of namespace {end.netns} disappeared while it was set up"
        )
    for change in plan_link(link, mac=end.mac, mtu=mtu, master=end.master):
        await apply_link(ip, end.netns, change)
    present = await dump(ip.addr, index=link.index, family=2)
    have = {
        f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}": message.get_attr("IFA_PROTO")
        for message in present
        if message["index"] == link.index
    }
    wanted = {str(address): address for address in end.addresses}
    for text, protocol in have.items():
        if protocol == LINK_PROTOCOL and text not in wanted:
            ip_text, _, length = text.partition("/")
            with refused(f"address del {text} dev {end.name}", end.netns, ignore=_NO_SUCH_ADDRESS):
                await ip.addr("del", index=link.index, address=ip_text, prefixlen=int(length))
    for text, address in wanted.items():
        if text not in have:
            await _apply(ip, end.netns, AddAddress(end.name, address, LINK_PROTOCOL))


async def _delete(ip: Any, netns: str | None, name: str, ignore: tuple[int, ...] = ()) -> None:
    index = await _find_index(ip, name)
    if index is not None:
        with refused(f"link del {name}", netns, ignore=(*NO_SUCH_LINK, *ignore)):
            await ip.link("del", index=index)


async def _route(ip: Any, netns: str | None, route: Route) -> dict[str, Any]:
    values: dict[str, Any] = {"dst": str(route.prefix), "proto": OUR_PROTOCOL, "table": 254}
    values["scope"] = 253 if (route.scope or ("link" if route.via is None else "global")) == "link" else 0
    if route.via is not None:
        values["gateway"] = str(route.via)
    if route.dev is not None:
        values["oif"] = await _index(ip, netns, route.dev)
    if route.src is not None:
        values["prefsrc"] = str(route.src)
    return values


def _route_words(route: Route) -> str:
    parts = [str(route.prefix), route.via and f"via {route.via}", route.dev and f"dev {route.dev}", route.src and f"src {route.src}"]
    return " ".join(part for part in parts if part)


async def _index(ip: Any, netns: str | None, name: str) -> int:
    index = await _find_index(ip, name)
    if index is None:
        raise DriverError(
            ("ip", "link", "show", name), 1, "", f"there is no link {name} in {f'namespace {netns}' if netns else 'the host namespace'}"
        )
    return index


async def _find_index(ip: Any, name: str) -> int | None:
    found = await ip.link_lookup(ifname=name)
    return int(found[0]) if found else None


async def _are_pair(ip_a: Any, a: ObservedLink | None, b: ObservedLink | None, veth: Veth) -> bool:
    if a is None or b is None or not (a.kind == b.kind == "veth" and a.peer == b.index and b.peer == a.index):
        return False
    if veth.a.netns == veth.b.netns:
        return a.peer_netns is None
    # Indexes are small numbers that repeat in every namespace: only with the namespace does one mean a link.
    with _open_netns(veth.b.netns) as other:
        number = (await ip_a.get_netnsid(fd=other.fileno()))["nsid"]
    return a.peer_netns is not None and a.peer_netns == number


def _open_netns(netns: str | None) -> BinaryIO:
    return open(netns_path(netns) if netns else "/proc/thread-self/ns/net", "rb")


def _stable_mac(netns: str | None, name: str) -> str:
    """A locally administered address. Without one a bridge takes the lowest of its ports' and changes it as they come and go."""
    digits = short_hash(f"{netns}/{name}")
    return ":".join(("02", "70", *(digits[i : i + 2] for i in range(0, 8, 2))))


def _write_sysctl(netns: str | None, name: str, value: str) -> None:
    if not name.startswith("net"):
        raise Bug(f"setting {name} does not belong to a network namespace")
    with in_netns(netns):
        try:
            sysctl_path(name).write_text(value, encoding="ascii")
        except FileNotFoundError as e:
            raise UserError(f"this kernel has no setting {name}", hint="see `pilvi doctor`") from e
