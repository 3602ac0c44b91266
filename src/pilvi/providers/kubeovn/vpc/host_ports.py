"""Ports of the host that an administrator opens to a VPC, as written in the annotation `pilvi.dev/host-ports`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HostPort", "parse_host_ports"]

_PROTOCOLS = ("tcp", "udp")
_HIGHEST, _DIGITS = 65535, 5


@dataclass(frozen=True, order=True)
class HostPort:
    """A port of the host; `protocol` is `tcp` or `udp`."""

    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


def parse_host_ports(text: str) -> tuple[HostPort, ...]:
    """`5000, 123/udp` as ports, sorted, each once; TCP where no protocol is named, none for empty text.

    Raises ValueError that names the first entry which is no port: a list that is half right opens nothing.
    """
    if not text.strip():
        return ()
    return tuple(sorted({_parse(entry.strip()) for entry in text.split(",")}))


def _parse(entry: str) -> HostPort:
    number, slash, protocol = entry.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{entry!r} names the protocol {protocol!r}, which is neither tcp nor udp")
    if not (number.isascii() and number.isdecimal() and len(number) <= _DIGITS and 1 <= int(number) <= _HIGHEST):
        raise ValueError(f"{entry!r} is no port from 1 to {_HIGHEST}")
    return HostPort(protocol, int(number))
