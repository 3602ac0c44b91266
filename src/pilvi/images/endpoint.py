"""A registry that no resolver has to know: where it is, and by which authority it is known."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pilvi.errors import UserError

__all__ = ["Endpoint"]

_HTTPS = 443


@dataclass(frozen=True)
class Endpoint:
    """The registry called `host` in references is at `address`; only `authority` (PEM) is trusted there."""

    host: str
    address: IPv4Address
    authority: str = field(repr=False)
    port: int = _HTTPS

    @property
    def url(self) -> str:
        """What its requests begin with."""
        return f"https://{self.host}" if self.port == _HTTPS else f"https://{self.host}:{self.port}"

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to it and to nobody else, whatever it answers. Raises UserError when the authority is none."""
        try:
            context = ssl.create_default_context(cadata=self.authority)
        except (ssl.SSLError, ValueError) as e:
            raise UserError(f"the authority of registry {self.host} is no certificate", hint="sudo pilvi up writes it anew") from e
        return aiohttp.TCPConnector(ssl=context, limit=4, resolver=_Fixed(self))


class _Fixed(AbstractResolver):
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        if host != self._endpoint.host:
            raise OSError(f"{self._endpoint.host} sends its clients to {host}")
        address = str(self._endpoint.address)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is held."""
