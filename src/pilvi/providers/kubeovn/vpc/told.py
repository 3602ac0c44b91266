"""What the interface of a machine asks DHCP to tell it: KubeVirt's `dhcpOptions`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from pilvi.api import JsonObject
from pilvi.api.kubevirt.interfaces import TEXT

__all__ = ["NOTHING_TOLD", "Told", "read_told"]

_TFTP_SERVER, _BOOT_FILE = 66, 67
_PRIVATE = range(224, 255)


@dataclass(frozen=True, order=True)
class Told:
    """`texts` are options as number and text, the number in digits; `next_server` is where the boot file is."""

    texts: tuple[tuple[str, str], ...] = ()
    ntp_servers: tuple[IPv4Address, ...] = ()
    next_server: IPv4Address | None = None


NOTHING_TOLD = Told()


def read_told(interface: JsonObject) -> Told:
    """What can be told of what the interface asks for. The policies refuse the rest; it would end up in a configuration file."""
    wanted = interface.get("dhcpOptions") or {}
    server = str(wanted.get("tftpServerName") or "")
    return Told(
        tuple((str(number), text) for number, text in _texts(wanted) if re.fullmatch(TEXT, text)),
        tuple(address for text in wanted.get("ntpServers") or () if (address := _find_address(text)) is not None),
        _find_address(server),
    )


def _texts(wanted: dict[str, Any]) -> Iterator[tuple[int, str]]:
    yield _TFTP_SERVER, str(wanted.get("tftpServerName") or "")
    yield _BOOT_FILE, str(wanted.get("bootFileName") or "")
    for option in wanted.get("privateOptions") or ():
        if option.get("option") in _PRIVATE:
            yield option["option"], str(option.get("value") or "")


def _find_address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except AddressValueError:
        return None
