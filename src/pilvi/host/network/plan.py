"""Which actions lead from what the kernel has to what is wanted. Pure."""

from __future__ import annotations

from ipaddress import IPv4Interface
from typing import TypeAlias

import msgspec

from pilvi.host.network.model import OUR_PROTOCOL, Address, Bridge, NamespaceNetwork, Observed, ObservedLink, Route

__all__ = [
    "BRIDGE_ALIAS",
    "Action",
    "AddAddress",
    "AddBridge",
    "AddRoute",
    "DeleteLink",
    "RemoveAddress",
    "RemoveRoute",
    "SetLink",
    "SetSysctl",
    "plan",
    "plan_link",
]

BRIDGE_ALIAS = "pilvi"
"""Alias of the bridges that we make. A namespace of ours may hold others, such as the bridge of a node's pods."""


class AddBridge(msgspec.Struct, frozen=True):
    """Make a bridge; `SetLink` follows for the rest."""

    bridge: Bridge


class SetLink(msgspec.Struct, frozen=True, kw_only=True):
    """Change what is not None of a link. `master` empty takes it out of its bridge."""

    name: str
    up: bool | None = None
    mac: str | None = None
    mtu: int | None = None
    master: str | None = None


class DeleteLink(msgspec.Struct, frozen=True):
    """Delete a link of ours."""

    name: str


class AddAddress(msgspec.Struct, frozen=True):
    """Give a link an address, marked with `protocol`."""

    link: str
    address: IPv4Interface
    protocol: int = OUR_PROTOCOL


class RemoveAddress(msgspec.Struct, frozen=True):
    """Take an address of ours from a link."""

    link: str
    address: IPv4Interface


class AddRoute(msgspec.Struct, frozen=True):
    """Add a route; with `replace` instead of our route to the same prefix."""

    route: Route
    replace: bool = False


class RemoveRoute(msgspec.Struct, frozen=True):
    """Remove a route of ours."""

    route: Route


class SetSysctl(msgspec.Struct, frozen=True):
    """Write a setting of the namespace."""

    name: str
    value: str


Action: TypeAlias = AddBridge | SetLink | DeleteLink | AddAddress | RemoveAddress | AddRoute | RemoveRoute | SetSysctl


def plan(desired: NamespaceNetwork, observed: Observed) -> list[Action]:
    """The actions, in an order that works: remove first, then links, addresses, routes, settings. Empty when nothing is to do.

    The kernel may drop more than it was told (an address takes routes along), so a plan is followed by another look.
    """
    governed = None if desired.netns is not None else {bridge.name for bridge in desired.bridges}
    actions: list[Action] = []
    wanted_routes = {route.prefix: route for route in desired.routes}
    for route in observed.routes:
        if route.prefix not in wanted_routes and _is_governed(route.dev, governed):
            actions.append(RemoveRoute(route))
    wanted_addresses = {(address.link, address.address) for address in desired.addresses}
    for present in observed.addresses:
        is_ours = present.protocol == OUR_PROTOCOL and _is_governed(present.link, governed)
        if is_ours and (present.link, present.address) not in wanted_addresses:
            actions.append(RemoveAddress(present.link, present.address))
    actions += _plan_bridges(desired, observed)
    actions += _plan_addresses(desired.addresses, observed)
    for route in desired.routes:
        same_prefix = [present for present in observed.routes if present.prefix == route.prefix]
        if not any(_fits(route, present) for present in same_prefix):
            actions.append(AddRoute(route, replace=bool(same_prefix)))
    for name, value in desired.sysctls.items():
        if observed.sysctls.get(name) != value:
            actions.append(SetSysctl(name, value))
    return actions


def plan_link(link: ObservedLink, *, mac: str | None, mtu: int, master: str | None) -> list[SetLink]:
    """What makes a link be up, with that address, size and master (None: in no bridge)."""
    change = SetLink(
        name=link.name,
        up=None if link.up else True,
        mac=mac if mac is not None and mac.lower() != link.mac.lower() else None,
        mtu=mtu if mtu != link.mtu else None,
        master=(master or "") if master != link.master else None,
    )
    return [] if change == SetLink(name=link.name) else [change]


def _plan_bridges(desired: NamespaceNetwork, observed: Observed) -> list[Action]:
    actions: list[Action] = []
    wanted = {bridge.name for bridge in desired.bridges}
    if desired.netns is not None:
        stale = (link for link in observed.links.values() if link.alias == BRIDGE_ALIAS and link.name not in wanted)
        actions += [DeleteLink(link.name) for link in stale]
    for bridge in desired.bridges:
        link = observed.links.get(bridge.name)
        if link is not None and link.kind != "bridge":
            actions.append(DeleteLink(bridge.name))
            link = None
        if link is None:
            actions.append(AddBridge(bridge))
        else:
            actions += plan_link(link, mac=bridge.mac, mtu=bridge.mtu, master=link.master)
    return actions


def _plan_addresses(addresses: tuple[Address, ...], observed: Observed) -> list[Action]:
    present = {(address.link, address.address) for address in observed.addresses}
    return [AddAddress(address.link, address.address) for address in addresses if (address.link, address.address) not in present]


def _is_governed(link: str | None, governed: set[str] | None) -> bool:
    return governed is None or link in governed


def _fits(wanted: Route, present: Route) -> bool:
    return (
        wanted.via == present.via
        and (wanted.dev is None or wanted.dev == present.dev)
        and wanted.src == present.src
        and _scope(wanted) == _scope(present)
    )


def _scope(route: Route) -> str:
    return route.scope or ("link" if route.via is None else "global")
