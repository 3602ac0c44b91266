"""A guest's network card without a guest: frames are written and read by the test, on a tap or on a link.

It answers who asks by ARP for its address, and has what a DHCP client needs; nothing of it is the code that is tested.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from pilvi.host.netns import in_netns

ANYWHERE, EVERYBODY = IPv4Address(0), IPv4Address("255.255.255.255")
BROADCAST = "ff:ff:ff:ff:ff:ff"
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK = 1, 2, 3, 4, 5, 6
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x2, 0x1000
_COOKIE = bytes((99, 130, 83, 99))


@dataclass
class Answer:
    """What a DHCP server says: the kind of message, the address it gives, options by number."""

    kind: int
    address: IPv4Address
    options: dict[int, bytes]

    def addresses(self, option: int) -> list[IPv4Address]:
        value = self.options[option]
        return [IPv4Address(value[index : index + 4]) for index in range(0, len(value), 4)]

    def number(self, option: int) -> int:
        return int.from_bytes(self.options[option], "big")


@dataclass
class Wire:
    """One card. `port` is its link; `address` is what it answers to by ARP."""

    descriptor: int
    mac: str
    port: str
    address: IPv4Address | None = None
    seen: list[bytes] = field(default_factory=list)

    @classmethod
    def on_tap(cls, netns: str, name: str, mac: str) -> Wire:
        """The far side of a persistent tap device."""
        with in_netns(netns):
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        return cls(descriptor, mac, name)

    @classmethod
    def on_link(cls, netns: str, name: str, mac: str) -> Wire:
        """Raw frames on a link."""
        with in_netns(netns):
            packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
        packets.bind((name, 0))
        return cls(packets.detach(), mac, name)

    def close(self) -> None:
        os.close(self.descriptor)

    def send(self, frame: bytes) -> None:
        os.write(self.descriptor, frame)

    async def receive(self, wanted: Callable[[bytes], bool], timeout_s: float) -> bytes | None:
        """The next frame like that; all that come before it are in `seen`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                frame = os.read(self.descriptor, 65536)
                self.seen.append(frame)
                self._answer(frame)
                if wanted(frame):
                    return frame
                continue
            await asyncio.sleep(0.005)
        return None

    def _answer(self, frame: bytes) -> None:
        asked = frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and self.address is not None and frame[38:42] == self.address.packed
        if asked and self.address is not None:
            self.send(arp(self.mac, self.address, IPv4Address(frame[28:32]), operation=2, to=frame[6:12].hex(":")))

    # DHCP

    async def lease(self, timeout_s: float = 3.0) -> Answer | None:
        """DISCOVER, then REQUEST of what is offered; the last answer, None without one."""
        offer = await self.ask(DISCOVER, timeout_s)
        if offer is None or offer.kind != OFFER:
            return offer
        answer = await self.ask(REQUEST, timeout_s, {50: offer.address.packed, 54: offer.options[54]})
        if answer is not None and answer.kind == ACK:
            self.address = answer.address
        return answer

    async def renew(self, server: IPv4Address, gateway_mac: str, timeout_s: float = 3.0) -> Answer | None:
        """REQUEST from the address that it has, straight to the server."""
        assert self.address is not None
        return await self.ask(REQUEST, timeout_s, source=self.address, target=server, to=gateway_mac)

    async def ask(
        self,
        kind: int,
        timeout_s: float,
        options: dict[int, bytes] | None = None,
        *,
        chaddr: str | None = None,
        source: IPv4Address = ANYWHERE,
        target: IPv4Address = EVERYBODY,
        to: str = BROADCAST,
    ) -> Answer | None:
        """One question and the answer to it."""
        xid = secrets.token_bytes(4)
        body = struct.pack("!BBBB4sHH4s12x16s192x", 1, 1, 6, 0, xid, 0, 0, source.packed, raw(chaddr or self.mac)) + _COOKIE
        asked = {53: bytes([kind]), **(options or {}), 55: bytes((1, 3, 6, 12, 15, 26, 28, 42, 51, 66, 67, 119, 230))}
        body += b"".join(bytes((number, len(value))) + value for number, value in asked.items()) + b"\xff"
        self.send(udp(self.mac, to, source, target, 68, 67, body))
        frame = await self.receive(lambda found: found[23:24] == b"\x11" and found[36:38] == b"\0\x44" and found[46:50] == xid, timeout_s)
        return None if frame is None else _read_answer(frame[42:])


def _read_answer(message: bytes) -> Answer:
    options: dict[int, bytes] = {}
    rest = message[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return Answer(options[53][0], IPv4Address(message[16:20]), options)


def raw(mac: str) -> bytes:
    """The six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return (raw(target) + raw(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp(mac: str, sender: IPv4Address, target: IPv4Address, *, operation: int = 1, to: str = BROADCAST, says: str | None = None) -> bytes:
    """`says` is the MAC that it claims for the sender."""
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, raw(says or mac), sender.packed, raw(to), target.packed)
    return ethernet(mac, to, 0x0806, body)


def udp(mac: str, to: str, source: IPv4Address, target: IPv4Address, sport: int, dport: int, body: bytes) -> bytes:
    return ipv4(mac, to, source, target, 17, struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body)


def tcp(mac: str, to: str, source: IPv4Address, target: IPv4Address, sport: int, dport: int, flags: int) -> bytes:
    """A segment without data."""
    return ipv4(mac, to, source, target, 6, struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 5 << 4, flags, 1024, 0, 0))


def ipv4(mac: str, to: str, source: IPv4Address, target: IPv4Address, protocol: int, body: bytes, *, fragment: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, fragment, 64, protocol, 0, source.packed, target.packed)
    total = sum(struct.unpack("!10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return ethernet(mac, to, 0x0800, header + body)
