"""Questions that tell whether a unit is ready, asked from the event loop, inside the unit's network namespace.

A probe returns None when the answer is the right one, else a short text that says what was seen instead; it never raises for a
process that is not there yet.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import msgspec

from pilvi.host.netns import in_netns

__all__ = ["HttpProbe", "Probe", "SocketProbe", "TcpProbe", "ask"]

ANSWER_TIMEOUT_S = 2.0


class HttpProbe(msgspec.Struct, frozen=True, kw_only=True, tag="http"):
    """Ready when a GET of `url` answers 200.

    With https the server must show a certificate of the CA in `ca_path` that fits the host of the URL; `cert_path` and `key_path` are the
    client's. The host must be an IPv4 address, since resolving a name would wait for the network.
    """

    url: str
    ca_path: Path | None = None
    cert_path: Path | None = None
    key_path: Path | None = None


class TcpProbe(msgspec.Struct, frozen=True, kw_only=True, tag="tcp"):
    """Ready when `host` (an IPv4 address) accepts connections on `port`."""

    host: str
    port: int


class SocketProbe(msgspec.Struct, frozen=True, kw_only=True, tag="socket"):
    """Ready when the Unix socket at `path` accepts connections."""

    path: Path


Probe: TypeAlias = HttpProbe | TcpProbe | SocketProbe


async def ask(probe: Probe, netns: str | None) -> str | None:
    """Ask once. None means ready; else what was seen, in a few words. Takes two seconds at most."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            match probe:
                case HttpProbe():
                    return await _ask_http(probe, netns)
                case TcpProbe(host=host, port=port):
                    (await _connect(netns, host, port)).close()
                case SocketProbe(path=path):
                    _, writer = await asyncio.open_unix_connection(path)
                    writer.close()
    except TimeoutError:
        return f"no answer within {ANSWER_TIMEOUT_S:g} s"
    except ConnectionError as e:
        return os.strerror(e.errno) if e.errno else str(e)  # asyncio's own words do not say that nobody listens
    except OSError as e:
        return str(e)
    return None


async def _ask_http(probe: HttpProbe, netns: str | None) -> str | None:
    parts = urlsplit(probe.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    connection = await _connect(netns, host, parts.port or (443 if secure else 80))
    try:
        context = _context(probe) if secure else None
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname=host if secure else None)
    except BaseException:
        connection.close()
        raise
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii"))
        head = (await reader.readline()).decode("latin-1").split(None, 2)
        if len(head) < 2:
            return "connection closed without an answer"
        return None if head[1] == "200" else f"HTTP status {head[1]}"
    except ValueError:
        return "an answer that is not HTTP"
    finally:
        # Aborted, not closed: a TLS goodbye of a probed server is not worth waiting for.
        writer.transport.abort()


def _context(probe: HttpProbe) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=probe.ca_path)
    if probe.cert_path is not None:
        context.load_cert_chain(probe.cert_path, probe.key_path)
    return context


async def _connect(netns: str | None, host: str, port: int) -> socket.socket:
    """A connected socket that lives in `netns`; a socket stays in the namespace that it was made in."""
    with in_netns(netns):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection
