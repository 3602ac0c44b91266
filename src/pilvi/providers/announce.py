"""Tells the neighbours on the cloud's bridge that an address is here now.

Addresses are used again as soon as they are free. A neighbour that has just spoken to the one before would go on sending to its MAC
for half a minute; a gratuitous ARP request (RFC 5227, section 3) corrects its table at once. The kernel sends none by itself when an
address is added.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from pilvi.host.netns import in_netns

__all__ = ["announce_addresses", "arp_announcement"]

_BROADCAST = b"\xff" * 6
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1
_ETHERTYPE_ARP = 0x0806


def arp_announcement(mac: str, address: IPv4Address) -> bytes:
    """The Ethernet frame that says: `address` is at `mac`. Pure."""
    sender = bytes.fromhex(mac.replace(":", ""))
    header = _BROADCAST + sender + struct.pack("!H", _ETHERTYPE_ARP)
    body = struct.pack("!HHBBH", _ETHERNET, _IPV4, len(sender), len(address.packed), _REQUEST)
    return header + body + sender + address.packed + bytes(6) + address.packed


def announce_addresses(netns: str, link: str, mac: str, addresses: Iterable[IPv4Address]) -> None:
    """Announce the addresses of `link`, whose MAC is `mac`, in a namespace. Never waits. Raises OSError when it is down."""
    with in_netns(netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK) as sender:
        sender.bind((link, 0))
        for address in addresses:
            sender.send(arp_announcement(mac, address))
