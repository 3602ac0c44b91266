"""HTTP to one API server: one TLS context, credentials that are read again when they stop working.

Below the client, which knows kinds and objects; here are only paths and bytes. Every answer that is no success becomes an error of
the tree, every missing answer ApiUnreachable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from pilvi.errors import ApiError, ApiUnreachable, TooManyRequests, Unauthorized, UserError
from pilvi.kube.kubeconfig import Kubeconfig
from pilvi.kube.status import error_from_body

__all__ = ["Request", "Transport"]

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
# A 429 was not executed, so it is safe to repeat; longer waits belong to the work queue, which can do other things meanwhile.
PATIENCE_429_S = 5.0
CLOSING_S = 1.0
# Each connection costs 128 KiB for TLS, so a burst of a thousand requests shares a few; what streams has one each.
CONNECTIONS = 16
ATTEMPTS_429 = 3
SOCKET_MESSAGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire. `what` is how errors call it."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] | None = None
    data: bytes | None = None
    content_type: str | None = None


class Transport:
    """Sends requests to the server of a kubeconfig. `reload` reads that again after an Unauthorized; None when it cannot change.

    Must be made inside a running event loop. Makes no connection by itself. Raises UserError for unusable credentials.
    """

    def __init__(self, kubeconfig: Kubeconfig, *, user_agent: str, reload: Callable[[], Kubeconfig] | None = None) -> None:
        self.kubeconfig = kubeconfig
        self._reload = reload
        self._ssl = kubeconfig.ssl_context()
        self._token = kubeconfig.find_token()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._requests = self._session(user_agent, connections=CONNECTIONS)
        self._streams = self._session(user_agent, connections=0)

    async def aclose(self) -> None:
        """Close all connections; none of their sockets is open afterwards. May be called again."""
        for session in (self._requests, self._streams):
            await session.close()
        # A request that was cut off says goodbye in TLS and waits for the answer. Its socket would outlive the loop, so it is told that the
        # peer has gone; all let go in the next rounds of the loop.
        deadline = time.monotonic() + CLOSING_S
        while (still_open := [each for each in self._sockets if each.fileno() != -1]) and time.monotonic() < deadline:
            for each in still_open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0)

    async def send(self, request: Request, timeout_s: float) -> bytes:
        """The body of a 2xx answer. `timeout_s` is the deadline for all of it, the repeats after a short 429 included."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._patient(request)
        except TimeoutError:
            raise ApiUnreachable(f"{request.what}: no answer from {self.kubeconfig.server} within {timeout_s:.4g} s") from None
        except (aiohttp.ClientError, ConnectionError) as e:
            raise ApiUnreachable(f"{request.what}: no connection to {self.kubeconfig.server}") from _plain_cause(e)

    @asynccontextmanager
    async def stream(self, request: Request, timeout_s: float) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a 200 answer as it arrives; `timeout_s` is the deadline for its head only. Closed on leaving the block."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(request, self._streams)
        except TimeoutError:
            raise ApiUnreachable(f"{request.what}: no answer from {self.kubeconfig.server} within {timeout_s:.4g} s") from None
        except (aiohttp.ClientError, ConnectionError) as e:
            raise ApiUnreachable(f"{request.what}: no connection to {self.kubeconfig.server}") from _plain_cause(e)
        try:
            if response.status != 200:
                if response.status == 401:
                    self._refresh()  # the next attempt is the caller's
                raise await self._refusal(response, request, timeout_s)
            yield response.content
        except (aiohttp.ClientError, ConnectionError) as e:
            raise ApiUnreachable(f"{request.what}: the connection broke") from _plain_cause(e)
        finally:
            _abort(response)

    @asynccontextmanager
    async def web_socket(self, request: Request, protocol: str, timeout_s: float) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A web socket that speaks `protocol`; `timeout_s` is the deadline for its beginning. Closed on leaving the block."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            async with asyncio.timeout(timeout_s):
                socket = await self._streams.ws_connect(
                    self.kubeconfig.server + request.path,
                    params=request.query,
                    protocols=(protocol,),
                    headers=headers,
                    ssl=self._ssl if self._ssl is not None else True,
                    server_hostname=self.kubeconfig.tls_server_name,
                    max_msg_size=SOCKET_MESSAGE_BYTES,
                )
        except aiohttp.WSServerHandshakeError as e:
            # What the server has against it stands in a body that is thrown away; the same question without the socket shows it.
            await self.send(request, timeout_s)
            raise ApiUnreachable(f"{request.what}: the server does not open a web socket ({e.status})") from None
        except TimeoutError:
            raise ApiUnreachable(f"{request.what}: no answer from {self.kubeconfig.server} within {timeout_s:.4g} s") from None
        except (aiohttp.ClientError, ConnectionError) as e:
            raise ApiUnreachable(f"{request.what}: no connection to {self.kubeconfig.server}") from _plain_cause(e)
        try:
            yield socket
        finally:
            await socket.close()

    async def _refusal(self, response: aiohttp.ClientResponse, request: Request, timeout_s: float) -> ApiError:
        try:
            async with asyncio.timeout(timeout_s):
                body = await response.read()
        except TimeoutError:
            body = b""  # the status code alone has to say it
        return error_from_body(response.status, body, request.what, retry_after_s=_retry_after_s(response))

    async def _patient(self, request: Request) -> bytes:
        refreshed = False
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._once(request)
            except TooManyRequests as e:
                if attempts >= ATTEMPTS_429 or e.retry_after_s > PATIENCE_429_S:
                    raise
                await asyncio.sleep(e.retry_after_s)
            except Unauthorized:
                if refreshed or not self._refresh():
                    raise
                refreshed = True

    async def _once(self, request: Request) -> bytes:
        async with await self._send(request, self._requests) as response:
            body = await response.read()
            if response.status >= 300:
                raise error_from_body(response.status, body, request.what, retry_after_s=_retry_after_s(response))
            return body

    async def _send(self, request: Request, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        headers = {}
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return await session.request(
            request.method,
            self.kubeconfig.server + request.path,
            params=request.query,
            data=request.data,
            headers=headers,
            ssl=self._ssl if self._ssl is not None else True,
            server_hostname=self.kubeconfig.tls_server_name,
            allow_redirects=False,
        )

    def _session(self, user_agent: str, *, connections: int) -> aiohttp.ClientSession:
        """A session of at most so many connections, 0 for any number. Who finds none free waits, within the deadline of his request."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, socket_factory=self._new_socket),
            # No total here: each request has its own deadline, and a watch has none.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            # API servers compress large lists; on a local network that costs more than it saves.
            headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _new_socket(self, address: Any) -> socket.socket:
        made = _socket(address)
        self._sockets.add(made)
        return made

    def _refresh(self) -> bool:
        """Read the credentials again after an Unauthorized. False when none of them come from a file."""
        config = self.kubeconfig
        if self._reload is None and config.token_file is None and not isinstance(config.client_cert, Path):
            return False
        try:
            fresh = self._reload() if self._reload is not None else config
            token, context = fresh.find_token(), fresh.ssl_context()
        except UserError as e:
            log.warning("credentials for %s are not readable: %s", config.server, e)
            return False
        self.kubeconfig, self._token, self._ssl = fresh, token, context
        return True


def _abort(response: aiohttp.ClientResponse) -> None:
    """End a stream at once: closed politely, its TLS goodbye would linger on a peer that no longer reads."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _plain_cause(error: Exception) -> Exception | None:
    """What to show as the cause: the error of the system below aiohttp's, whose texts hold object addresses and parser details."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    if isinstance(error, aiohttp.ClientOSError) and isinstance(error.__cause__, OSError):
        return error.__cause__
    return None if isinstance(error, aiohttp.ClientPayloadError) else error


def _socket(address: Any) -> socket.socket:
    """A TCP socket that notices a dead peer: a cloud's API servers vanish together with their network namespaces.

    Unacknowledged data gives up after 10 s; an idle connection is probed after 30 s.
    """
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return connection
