"""Tells the neighbours on the cloud's bridge that an address is here now.

Addresses are used again as soon as they are free. A neighbour that has just spoken to the one before would go on sending to its MAC
for half a minute; a gratuitous ARP request (RFC 5227, section 3) corrects its table at once. The kernel sends none by itself when an
address is added.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from pilvi.host.netns import in_netns

__all__ = ["Announcer", "arp_announcement"]

_BROADCAST = b"\xff" * 6
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1
_ETHERTYPE_ARP = 0x0806


def arp_announcement(mac: str, address: IPv4Address) -> bytes:
    """The Ethernet frame that says: `address` is at `mac`. Pure."""
    sender = bytes.fromhex(mac.replace(":", ""))
    header = _BROADCAST + sender + struct.pack("!H", _ETHERTYPE_ARP)
    body = struct.pack("!HHBBH", _ETHERNET, _IPV4, len(sender), len(address.packed), _REQUEST)
    return header + body + sender + address.packed + bytes(6) + address.packed


class Announcer:
    """Announces each address once where it is, for as long as it stays there. One for each kind of place, in each engine."""

    def __init__(self) -> None:
        self._here: dict[str, set[IPv4Address]] = {}

    async def announce(self, netns: str, link: str, mac: str, addresses: Iterable[IPv4Address]) -> None:
        """Say which `addresses` the link, whose MAC is `mac`, of the namespace has now; those that it had at the last call are known.

        Raises OSError when the link is down; then they are announced with the next call.
        """
        here = set(addresses)
        if new := sorted(here - self._here.get(netns, set())):
            await asyncio.to_thread(_send, netns, link, [arp_announcement(mac, address) for address in new])
        self._here[netns] = here

    def forget(self, netns: str) -> None:
        """The namespace is gone."""
        self._here.pop(netns, None)


def _send(netns: str, link: str, frames: list[bytes]) -> None:
    """In a thread: closing a bound packet socket waits for a grace period of the kernel, some 16 ms."""
    with in_netns(netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((link, 0))
        for frame in frames:
            sender.send(frame)
