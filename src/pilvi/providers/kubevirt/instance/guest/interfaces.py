"""`status.interfaces`: what the machine has been given, together with what its guest makes of it. Pure.

As in KubeVirt an interface of the guest is told by its MAC, and those that only the guest knows come last, without a name. Other than
there the machine's own address stays even while the guest has none: it is the machine's, and tools read it before the guest is up.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.machines.guest import GuestLink

__all__ = ["merge_interfaces"]


def merge_interfaces(interfaces: list[JsonObject], links: Iterable[GuestLink]) -> list[JsonObject]:
    """`interfaces` completed by what the guest tells of its `links`; neither is changed."""
    by_mac = {link.mac: link for link in reversed(list(links)) if link.mac}
    merged = [_complete(interface, by_mac.get(str(interface.get("mac")).lower())) for interface in interfaces]
    known = {str(interface.get("mac")).lower() for interface in interfaces}
    return [*merged, *(_of_guest(link) for link in links if link.mac not in known)]


def _complete(interface: JsonObject, link: GuestLink | None) -> JsonObject:
    if link is None:
        return interface
    own = list(interface.get("ipAddresses") or [])
    addresses = [*own, *(address for address in link.addresses if address not in own)]
    merged = {**interface, "interfaceName": link.name, "infoSource": "domain, guest-agent"}
    return {**merged, "ipAddress": addresses[0], "ipAddresses": addresses} if addresses else merged


def _of_guest(link: GuestLink) -> JsonObject:
    found: JsonObject = {"interfaceName": link.name, "infoSource": "guest-agent"}
    if link.mac:
        found["mac"] = link.mac
    if link.addresses:
        found["ipAddress"] = next((address for address in link.addresses if ":" not in address), link.addresses[0])
        found["ipAddresses"] = list(link.addresses)
    return found
