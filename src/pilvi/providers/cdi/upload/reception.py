"""What the upload proxy does with what clients send: it lands in the workspace of the claim's filling, which goes on from there.

A client may wait until the disk is whole (`wait`), as with upstream's plain path, or only until all has arrived.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientPayloadError, hdrs, web

from pilvi.errors import NoSpace, TimedOut, Transient, format_chain
from pilvi.lib.deadline import wait_for
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.providers.cdi.kinds import CLAIMS, READY, RUNNING_MESSAGE, RUNNING_REASON
from pilvi.providers.cdi.population.work import largest_image
from pilvi.providers.cdi.upload.tokens import Grant, Tokens
from pilvi.providers.claims import annotations_of, claim_volume, is_populated, volume_file
from pilvi.runtime import is_deleting
from pilvi.transfer import find_received, receive

if TYPE_CHECKING:
    from pilvi.api import JsonObject
    from pilvi.providers.platform import Platform

__all__ = ["Reception"]

WAIT_S = 3600.0
LOOK_S = 0.2


class Reception:
    """Takes uploads."""

    def __init__(self, platform: Platform, tokens: Tokens) -> None:
        self._cloud = platform.cloud
        self._claims = platform.informers.get(CLAIMS)
        self._tokens = tokens
        self._busy: set[str] = set()

    async def greet(self, request: web.Request) -> web.Response:
        """Whether this path is there for this token: a client asks before it sends."""
        self._claim(self._grant(request))
        return web.Response()

    async def take(self, request: web.Request, *, wait: bool) -> web.Response:
        """Keep the body, and wait for the disk to be whole if asked to. Raises web.HTTPException for what is refused."""
        grant = self._grant(request)
        claim = self._claim(grant)
        size_bytes = await on_disk(_size, volume_file(self._cloud, claim_volume(claim)))
        limit = largest_image(size_bytes)
        if (request.content_length or 0) > limit:
            raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0, text=f"the claim has room for {size_bytes} bytes\n")
        workspace = self._cloud.home / "imports" / grant.uid
        if grant.uid in self._busy or await on_disk(find_received, workspace) is not None:
            raise web.HTTPConflict(text="an upload to this claim is under way\n")
        self._busy.add(grant.uid)
        try:
            await receive(_limited(request, limit), workspace, request.content_length)
        except NoSpace as e:
            raise web.HTTPInsufficientStorage(text=f"{format_chain(e)}\n") from e
        except (Transient, ClientPayloadError, ConnectionError) as e:
            raise web.HTTPBadRequest(text=f"{format_chain(e)}\n") from e
        except FileNotFoundError as e:
            self._claim(grant)  # gone, and with it the workspace
            raise web.HTTPConflict(text="the workspace of the upload was removed; send it again\n") from e
        finally:
            self._busy.discard(grant.uid)
            if not self._is_there(grant):
                await on_disk(remove_tree, workspace)
        if wait:
            await self._until_whole(grant)
        return web.Response()

    def _grant(self, request: web.Request) -> Grant:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        grant = self._tokens.find(token.strip()) if scheme.lower() == "bearer" else None
        if grant is None:
            raise web.HTTPUnauthorized(text="the token is unknown or older than five minutes; ask for another\n")
        return grant

    def _is_there(self, grant: Grant) -> bool:
        claim = self._claims.get(grant.key)
        return claim is not None and claim["metadata"]["uid"] == grant.uid and not is_deleting(claim)

    def _claim(self, grant: Grant) -> JsonObject:
        claim = self._claims.get(grant.key)
        if claim is None or not self._is_there(grant):
            raise web.HTTPNotFound(text=f"claim {grant.key} is gone\n")
        if is_populated(claim) or annotations_of(claim).get(READY) != "true":
            raise web.HTTPConflict(text=f"claim {grant.key} waits for no upload now\n")
        return claim

    async def _until_whole(self, grant: Grant) -> None:
        def outcome() -> str | None:
            claim = self._claims.get(grant.key)
            if claim is None or claim["metadata"]["uid"] != grant.uid:
                return "the claim was deleted"
            if is_populated(claim):
                return "whole"
            held = annotations_of(claim)
            return (
                held.get(RUNNING_MESSAGE, "refused")
                if held.get(RUNNING_REASON) == "TransferRefused" and not self._under_way(grant)
                else None
            )

        try:
            found = await wait_for(outcome, WAIT_S, "the disk to be whole", interval_s=LOOK_S)
        except TimedOut as e:
            raise web.HTTPGatewayTimeout(text=f"{format_chain(e)}\n") from e
        if found != "whole":
            raise web.HTTPBadRequest(text=f"{found}\n")

    def _under_way(self, grant: Grant) -> bool:
        return find_received(self._cloud.home / "imports" / grant.uid) is not None


async def _limited(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    taken = 0
    async for chunk in request.content.iter_any():
        taken += len(chunk)
        if taken > limit:
            raise web.HTTPRequestEntityTooLarge(limit, taken, text="the upload is larger than the claim\n")
        yield chunk


def _size(path: Path) -> int:
    return path.stat().st_size
