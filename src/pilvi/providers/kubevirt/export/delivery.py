"""What the export proxy does with what clients ask for: disks, block by block, and manifests.

A client shows the token of its export. It gets a disk as it was at one moment, or is cut off: when a machine starts with it, when the disk
is written to, when the export is deleted. A client that is cut off sees it, since the length or the end of the stream is missing.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from pilvi.api import JsonObject, Key
from pilvi.errors import ApiError, Transient, UserError, format_chain
from pilvi.lib.disk import finish_on_disk
from pilvi.providers.kubevirt.export.contents import Contents, Held, Volume
from pilvi.providers.kubevirt.export.kinds import CLAIMS, EXPORTS, SECRETS
from pilvi.providers.kubevirt.export.manifests import TOKEN_HEADER, header_secret, machine_manifests, written
from pilvi.providers.kubevirt.export.plan import find_token, secret_name, url_of
from pilvi.providers.kubevirt.export.status import is_ready
from pilvi.providers.kubevirt.instancetype.choice import Choices
from pilvi.transfer import BLOCK_BYTES, Gzip, Outgoing

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Delivery"]

AT_ONCE = 16
"""Downloads at a time; each holds a few blocks in memory."""
PIECE_BYTES = 64 << 10
STALL_S = 60.0
"""A client that does not take a piece in that time has gone, or holds a place that others wait for."""
RETRY_AFTER = {"Retry-After": "5"}
YAML = "application/yaml"

log = logging.getLogger(__name__)


class Delivery:
    """Answers the requests below an export's URL. `namespace`, `name` and `volume` are in the match of the request's path."""

    def __init__(self, platform: Platform, *, stall_s: float = STALL_S) -> None:
        self._platform = platform
        self._contents = Contents(platform)
        self._choices = Choices(platform.client)
        self._exports = platform.informers.get(EXPORTS)
        self._secrets = platform.informers.get(SECRETS)
        self._claims = platform.informers.get(CLAIMS)
        self._stall_s = stall_s
        self._under_way = 0

    async def raw(self, request: web.Request) -> web.StreamResponse:
        """The disk as it is, whole or a range of it."""
        return await self._send(request, packed=False)

    async def gzip(self, request: web.Request) -> web.StreamResponse:
        """The disk, compressed."""
        return await self._send(request, packed=True)

    async def machine(self, request: web.Request) -> web.Response:
        """Manifests that make the machine elsewhere."""
        export, _ = self._authorised(request)
        held = self._held(export)
        if held.made_of is None:
            raise web.HTTPNotFound(text="a claim is exported, and no machine: there is nothing but its volume\n")
        claims = {volume.claim: found for volume in held.volumes if (found := self._claims.get(_key(export, volume.claim))) is not None}
        try:
            vm = await self._choices.expand_machine(held.made_of)
        except (UserError, ApiError) as e:
            raise web.HTTPConflict(text=f"the machine cannot be written without its instancetype: {format_chain(e)}\n") from e
        url, authority = url_of(export, self._platform.cloud.platform_address.ip), self._platform.authority
        return _text(request, machine_manifests(export, held, vm, claims, url=url, authority=authority))

    async def secret(self, request: web.Request) -> web.Response:
        """The Secret that the manifests name."""
        export, token = self._authorised(request)
        self._held(export)
        return _text(request, [header_secret(export, token)])

    def _authorised(self, request: web.Request) -> tuple[JsonObject, bytes]:
        """The export and its token. Who has not got that learns nothing, not even which exports there are."""
        export = self._exports.get(Key(request.match_info["namespace"], request.match_info["name"]))
        token = find_token(self._secrets.get(_key(export, secret_name(export)))) if export is not None else None
        given = (request.headers.get(TOKEN_HEADER), request.query.get(TOKEN_HEADER))
        if export is None or token is None or not any(_equal(text, token) for text in given if text):
            message = f"there is no such export, or the header {TOKEN_HEADER} does not have its token, which status.tokenSecretRef names\n"
            raise web.HTTPUnauthorized(text=message)
        return export, token

    def _held(self, export: JsonObject) -> Held:
        held = self._contents.look(export)
        if held.reason or not is_ready(export):
            why = held.message or "it is being made ready"
            raise web.HTTPServiceUnavailable(text=f"export {Key.of(export)} is not ready: {why}\n", headers=RETRY_AFTER)
        return held

    def _volume(self, export: JsonObject, name: str) -> Volume:
        held = self._held(export)
        found = next((volume for volume in held.volumes if volume.claim == name), None)
        if found is None:
            there = ", ".join(volume.claim for volume in held.volumes)
            raise web.HTTPNotFound(text=f"the export has no volume {name}; it has {there}\n")
        return found

    async def _send(self, request: web.Request, *, packed: bool) -> web.StreamResponse:
        export, _ = self._authorised(request)
        volume = self._volume(export, request.match_info["volume"])
        if self._under_way >= AT_ONCE:
            raise web.HTTPServiceUnavailable(text=f"{AT_ONCE} downloads are under way; try again\n", headers=RETRY_AFTER)
        self._under_way += 1
        disk = Outgoing(volume.file)
        try:
            try:
                await finish_on_disk(disk.open)
            except OSError as e:
                raise web.HTTPInternalServerError(text=f"the disk of claim {volume.claim} cannot be read: {e.strerror}\n") from e
            return await (self._send_packed if packed else self._send_raw)(request, export, volume, disk)
        finally:
            disk.close()
            self._under_way -= 1

    async def _send_raw(self, request: web.Request, export: JsonObject, volume: Volume, disk: Outgoing) -> web.StreamResponse:
        start, stop = _range(request, disk)
        headers = {hdrs.ACCEPT_RANGES: "bytes", hdrs.ETAG: disk.tag}
        whole = (start, stop) == (0, disk.size_bytes)
        if not whole:
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{disk.size_bytes}"
        response = web.StreamResponse(status=200 if whole else 206, headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        try:
            for place in range(start, stop, BLOCK_BYTES):
                end = min(place + BLOCK_BYTES, stop)
                data = await finish_on_disk(disk.read, place, end)
                self._still(export, volume)
                await self._write(response, data if data is not None else bytes(end - place))
        except (Transient, TimeoutError, OSError) as e:
            _cut(request, export, volume, e)
        return response

    async def _send_packed(self, request: web.Request, export: JsonObject, volume: Volume, disk: Outgoing) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/gzip"
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        packer = Gzip()

        def pack(place: int, end: int) -> bytes:
            return packer.pack(disk.read(place, end), end - place)

        try:
            await self._write(response, packer.HEAD)
            for place in range(0, disk.size_bytes, BLOCK_BYTES):
                data = await finish_on_disk(pack, place, min(place + BLOCK_BYTES, disk.size_bytes))
                self._still(export, volume)
                await self._write(response, data)
            await self._write(response, packer.end())
        except (Transient, TimeoutError, OSError) as e:
            _cut(request, export, volume, e)
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Send, as fast as the client takes it. Raises TimeoutError when it takes none, ConnectionError when it is gone."""
        view = memoryview(data)
        for place in range(0, len(view), PIECE_BYTES):
            async with asyncio.timeout(self._stall_s):
                await response.write(view[place : place + PIECE_BYTES])

    def _still(self, export: JsonObject, volume: Volume) -> None:
        """Raises Transient when the disk is not to be had any more."""
        now = self._exports.get(Key.of(export))
        if now is None or now["metadata"]["uid"] != export["metadata"]["uid"]:
            raise Transient("the export was deleted")
        held = self._contents.look(now)
        if volume not in held.volumes:
            raise Transient(held.message or "the claim is another one now")


def _key(export: JsonObject, name: str) -> Key:
    return Key(export["metadata"]["namespace"], name)


def _equal(text: str, token: bytes) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), token)


def _range(request: web.Request, disk: Outgoing) -> tuple[int, int]:
    """First byte and the one after the last that are asked for: all, unless it is one range of this very disk.

    Raises web.HTTPRequestRangeNotSatisfiable for one beyond its end.
    """
    try:
        asked = request.http_range
    except ValueError:
        return 0, disk.size_bytes
    if request.headers.get(hdrs.IF_RANGE, disk.tag) != disk.tag:
        return 0, disk.size_bytes
    start, stop, _ = asked.indices(disk.size_bytes)
    if start >= stop and hdrs.RANGE in request.headers:
        raise web.HTTPRequestRangeNotSatisfiable(headers={hdrs.CONTENT_RANGE: f"bytes */{disk.size_bytes}"})
    return start, stop


def _cut(request: web.Request, export: JsonObject, volume: Volume, error: Exception) -> None:
    """End the connection in the middle of the answer, so that nobody takes what was sent for a disk."""
    log.info("the download of claim %s from export %s was ended: %s", volume.claim, Key.of(export), format_chain(error))
    if request.transport is not None:
        request.transport.abort()


def _text(request: web.Request, objects: list[JsonObject]) -> web.Response:
    as_yaml = request.headers.get(hdrs.ACCEPT) == YAML
    return web.Response(body=written(objects, as_yaml=as_yaml), content_type=YAML if as_yaml else "application/json")
