"""The network of a namespace as a value: what is wanted, and what the kernel has."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

import msgspec

from pilvi.errors import Bug

__all__ = [
    "LINK_PROTOCOL",
    "OUR_PROTOCOL",
    "Address",
    "Bridge",
    "NamespaceNetwork",
    "Observed",
    "ObservedAddress",
    "ObservedLink",
    "Route",
    "Tap",
    "Veth",
    "VethEnd",
    "check_link_name",
]

OUR_PROTOCOL = 117
"""Marks addresses and routes that a NamespaceNetwork has made, so that stale ones are found and others' are never touched."""
LINK_PROTOCOL = 118
"""Marks addresses that a VethEnd brings along; they belong to that end, not to the NamespaceNetwork around it."""


class Bridge(msgspec.Struct, frozen=True):
    """A bridge that is up. `mac` None means one made from namespace and name, so that neighbours never learn another one."""

    name: str
    mac: str | None = None
    mtu: int = 1500

    def __post_init__(self) -> None:
        check_link_name(self.name)


class Address(msgspec.Struct, frozen=True):
    """An address of a link, with the length of its network."""

    link: str
    address: IPv4Interface


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route in the main table: `via` with or without `dev`, or `dev` alone. `scope` None is `link` without `via`, else `global`."""

    prefix: IPv4Network
    via: IPv4Address | None = None
    dev: str | None = None
    src: IPv4Address | None = None
    scope: Literal["global", "link"] | None = None

    def __post_init__(self) -> None:
        if self.via is None and self.dev is None:
            raise Bug(f"route to {self.prefix} has neither via nor dev")


class NamespaceNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """Bridges, addresses, routes and settings of one namespace.

    `netns` None is the host's own namespace: there only what is on the links named in `bridges` is ever removed, since the rest
    may be another cloud's. In a namespace of ours everything marked as ours and not listed here is removed. Links that are not
    bridges come and go by `ensure_veth` and `delete_link`. An address or route on a link that is not there yet is an error.
    `sysctls` are names below `net.` with their values, in order, for example `{"net.ipv4.ip_forward": "1"}`; nothing puts back
    the ones that are no longer listed. Host-wide changes belong to `host.settings`, which can take them back.
    """

    netns: str | None
    bridges: tuple[Bridge, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: dict[str, str] = {}

    def __post_init__(self) -> None:
        prefixes = [route.prefix for route in self.routes]
        if len(set(prefixes)) != len(prefixes):
            raise Bug(f"two routes of namespace {self.netns} have the same prefix")


class VethEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a veth pair: up, with its addresses, in the bridge `master` of the same namespace or in none."""

    netns: str | None
    name: str
    mac: str | None = None
    master: str | None = None
    addresses: tuple[IPv4Interface, ...] = ()

    def __post_init__(self) -> None:
        check_link_name(self.name)


class Veth(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual cable between two namespaces, or between two links of one."""

    a: VethEnd
    b: VethEnd
    mtu: int = 1500


class Tap(msgspec.Struct, frozen=True, kw_only=True):
    """A tap device that is up, as a port of the bridge `master` of the same namespace. Its own MAC is nobody's: the guest has another."""

    netns: str | None
    name: str
    master: str
    mtu: int = 1500

    def __post_init__(self) -> None:
        check_link_name(self.name)


class ObservedLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link that the kernel has. `kind` is empty for hardware and loopback.

    For an end of a veth pair, `peer` is the index of the other one and `peer_netns` the kernel's number, as seen from this
    namespace, of the namespace that it is in (None: this one).
    """

    name: str
    index: int
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    up: bool = True
    master: str | None = None
    alias: str = ""
    peer: int | None = None
    peer_netns: int | None = None


class ObservedAddress(msgspec.Struct, frozen=True):
    """An address that the kernel has. `protocol` 0 means made by hand."""

    link: str
    address: IPv4Interface
    protocol: int = 0


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one namespace: links by name, addresses, our routes of the main table, and the settings asked for."""

    links: dict[str, ObservedLink] = {}
    addresses: tuple[ObservedAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: dict[str, str] = {}


def check_link_name(name: str) -> None:
    """Raises Bug for a name that the kernel would refuse or cut: names of links are made by code, never typed by a person."""
    if not 1 <= len(name) <= 15 or "/" in name or any(character.isspace() for character in name):
        raise Bug(f"{name!r} cannot be the name of a link: 1 to 15 characters, no slash, no space")
