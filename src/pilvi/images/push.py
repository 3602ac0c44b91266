"""The cloud's own registry as those see it who write: images are pushed, listed and deleted.

What is there already is not sent again, so a push that broke off is repeated and goes on with the next blob.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import aiohttp

from pilvi.errors import Transient, UserError
from pilvi.images.bundle import MANIFEST_TYPES, Bundle, Content, content_size, read_content
from pilvi.images.endpoint import Endpoint
from pilvi.images.reference import Reference
from pilvi.images.registry import Credentials
from pilvi.lib.disk import on_disk

__all__ = ["Stored", "Writer"]

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_read=120)
_TRIES, _PAUSE_S = 3, 0.2
_PAGE = 1000
_AT_ONCE = 8
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


@dataclass(frozen=True)
class Stored:
    """One name that the registry has. `size_bytes` is what its layers take, 0 for an image of several platforms."""

    reference: Reference
    digest: str
    size_bytes: int
    annotations: dict[str, str]


class Writer:
    """The registry at `endpoint`, with what it takes to push there. Use as an async context manager.

    All methods raise UserError for what a person must mend (password, full disk) and Transient when nobody answers.
    """

    def __init__(self, endpoint: Endpoint, credentials: Credentials) -> None:
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Basic {credentials.basic}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Writer:
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=self._endpoint.connector(), headers=self._headers, auto_decompress=False, trust_env=False
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def push(self, reference: Reference, bundle: Bundle, progress: Callable[[int, int], None] = lambda _done, _all: None) -> str:
        """Store the image under this name; its digest. `progress` gets bytes that are there, and all. Also raises OSError."""
        done, total = 0, bundle.size_bytes

        def sent(size: int) -> None:
            nonlocal done
            done += size
            progress(done, total)

        for digest, content in bundle.blobs.items():
            if await self._has(f"{reference.path}/blobs/{digest}"):
                sent(content_size(content))
            else:
                await self._send_blob(reference, digest, content, sent)
        for digest, (media_type, body) in bundle.children.items():
            await self._put_manifest(reference, digest, media_type, body)
        return await self._put_manifest(reference, reference.wanted, bundle.media_type, bundle.manifest)

    async def find(self, reference: Reference) -> Stored | None:
        """What the name stands for."""
        found = await self._get_manifest(reference)
        if found is None:
            return None
        digest, _, document = found
        sizes = [layer["size"] for layer in document.get("layers") or []]
        return Stored(reference, digest, sum(sizes), document.get("annotations") or {})

    async def tag(self, reference: Reference, tag: str) -> None:
        """Give what `reference` stands for another tag. Raises UserError when it stands for nothing."""
        async with self._ask("GET", f"{reference.path}/manifests/{reference.wanted}", headers=_ACCEPT) as response:
            await self._check(response, str(reference), 200)
            body, media_type = await response.read(), response.content_type
        await self._put_manifest(reference, tag, media_type, body)

    async def list_images(self) -> list[Stored]:
        """All names that the registry has, in order."""
        limit = asyncio.Semaphore(_AT_ONCE)

        async def look(reference: Reference) -> Stored | None:
            async with limit:
                return await self.find(reference)

        references = [
            Reference(self._endpoint.host, path, tag)
            for path in await self._pages("_catalog", "repositories")
            for tag in await self._pages(f"{path}/tags/list", "tags")
        ]
        found = await asyncio.gather(*(look(reference) for reference in sorted(references, key=str)))
        return [stored for stored in found if stored is not None]  # one may be deleted meanwhile

    async def delete(self, reference: Reference) -> None:
        """Take the name away. Raises UserError when there is none of that name."""
        async with self._ask("DELETE", f"{reference.path}/manifests/{reference.wanted}") as response:
            await self._check(response, str(reference), 202)

    async def _send_blob(self, reference: Reference, digest: str, content: Content, sent: Callable[[int], None]) -> None:
        size = content_size(content)
        for attempt in range(_TRIES):
            gone = 0

            async def body() -> AsyncIterator[bytes]:
                nonlocal gone
                pieces = read_content(content)
                while piece := await on_disk(lambda: b"".join(islice(pieces, 1))):
                    yield piece
                    gone += len(piece)
                    sent(len(piece))

            try:
                async with self._ask("POST", f"{reference.path}/blobs/uploads/") as begun:
                    await self._check(begun, str(reference), 202)
                    place = begun.headers["Location"]
                url = f"{place}{'&' if '?' in place else '?'}digest={digest}"
                headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
                # Nothing is sent before it is known that there is room for it.
                async with self._ask("PUT", url, headers=headers, data=body(), expect100=True) as stored:
                    await self._check(stored, str(reference), 201)
                return
            except Transient:
                sent(-gone)
                if attempt == _TRIES - 1:
                    raise
                await asyncio.sleep(_PAUSE_S * 2**attempt)

    async def _put_manifest(self, reference: Reference, wanted: str, media_type: str, body: bytes) -> str:
        async with self._ask("PUT", f"{reference.path}/manifests/{wanted}", headers={"Content-Type": media_type}, data=body) as response:
            await self._check(response, str(reference), 201)
            return response.headers.get("Docker-Content-Digest", "")

    async def _get_manifest(self, reference: Reference) -> tuple[str, str, dict[str, Any]] | None:
        async with self._ask("GET", f"{reference.path}/manifests/{reference.wanted}", headers=_ACCEPT) as response:
            if response.status == 404:
                return None
            await self._check(response, str(reference), 200)
            return response.headers["Docker-Content-Digest"], response.content_type, json.loads(await response.read())

    async def _has(self, path: str) -> bool:
        async with self._ask("HEAD", path) as response:
            if response.status != 404:
                await self._check(response, path, 200)
            return response.status == 200

    async def _pages(self, path: str, field: str) -> list[str]:
        found: list[str] = []
        url = f"{path}?n={_PAGE}"
        while url:
            async with self._ask("GET", url) as response:
                if response.status == 404:  # a repository whose last image is gone
                    return found
                await self._check(response, path, 200)
                found += json.loads(await response.read())[field] or []
                following = _NEXT.search(response.headers.get("Link", ""))
                url = following[1] if following else ""
        return found

    def _ask(self, method: str, path: str, **options: Any) -> _Answer:
        assert self._session is not None  # noqa: S101 (a bug of the caller's)
        url = f"{self._endpoint.url}{path}" if path.startswith("/") else f"{self._endpoint.url}/v2/{path}"
        return _Answer(self._endpoint, self._session.request(method, url, allow_redirects=False, **options))

    async def _check(self, response: aiohttp.ClientResponse, what: str, wanted: int) -> None:
        """Raises what the answer means unless it is the `wanted` one."""
        if response.status == wanted:
            return
        said = _message(await response.read())
        if response.status == 401:
            raise UserError(f"registry {self._endpoint.host} does not know the password", hint="try again: it was changed a moment ago")
        if response.status == 404:
            raise UserError(f"registry {self._endpoint.host} has no {what}", hint="pilvi image list")
        if response.status == 507:
            raise UserError(
                f"{what} cannot be stored: {said}", hint="pilvi image delete NAME:TAG, or make room on the disk of the cloud's home"
            )
        if response.status >= 500:
            raise Transient(f"registry {self._endpoint.host} answers {response.status} for {what}: {said}; see `sudo pilvi logs registry`")
        raise UserError(f"registry {self._endpoint.host} does not take {what}: {said}", hint="look at how the image was made")


class _Answer:
    """`async with` around one answer; failures of the way there are Transient."""

    def __init__(self, endpoint: Endpoint, request: Any) -> None:
        self._endpoint, self._request = endpoint, request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._request.__aenter__()
            return response
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as e:
            raise self._failure(e) from e

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, aiohttp.ClientError | TimeoutError | ConnectionError):
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> Transient:
        return Transient(f"registry {self._endpoint.host} does not answer at {self._endpoint.address}: {error or type(error).__name__}")


def _message(body: bytes) -> str:
    try:
        first = json.loads(body)["errors"][0]
    except (ValueError, KeyError, IndexError, TypeError):
        return body[:200].decode(errors="replace") or "nothing is said of it"
    detail = first.get("detail")
    return f"{first.get('message', '')}{f' ({detail})' if detail and isinstance(detail, str) else ''}"
