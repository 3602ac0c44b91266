"""One download over HTTP that goes on where it was.

No HEAD request, which many servers refuse: the answer to GET says all. A download goes on with Range and If-Range, so a server that has
no ranges, or another file by now, sends the whole file, and it starts anew.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import ClientResponse, hdrs
from yarl import URL

from pilvi.errors import NoSpace, Transient, UserError
from pilvi.transfer.meter import Meter
from pilvi.transfer.partial import Partial, Record, store
from pilvi.transfer.source import HttpSource

__all__ = ["discard", "fetch"]

CONNECT_S = 30.0
SILENCE_S = 60.0
REDIRECTS = 10
ROOM_BYTES = 64 << 20
"""What a download leaves free: a disk without any room stops everything else on it."""

_BUSY = (408, 425, 429, 500, 502, 503, 504)


async def fetch(source: HttpSource, folder: Path, meter: Meter) -> Path:
    """The file that `source` names, in `folder`, which only this download uses; the path is valid until `discard`.

    A second call after a failure or cancellation fetches what is missing; one after success returns at once. Raises Transient when the
    server is busy, cannot be reached or breaks off, NoSpace, and UserError for what it refuses.
    """
    partial = Partial(folder)
    record = partial.find(source.url)
    if record is not None and record.complete:
        return partial.data
    meter.begin("downloading", record.total if record else None, record.synced if record else 0)
    context = await asyncio.to_thread(source.context)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=1), timeout=timeout, auto_decompress=False
        ) as session:
            await _fetch(session, source, partial, record, meter)
    except aiohttp.ClientConnectorCertificateError as e:
        raise UserError(
            f"the certificate of {_shown(source.url)} is not trusted: {e.certificate_error}",
            hint="name a ConfigMap with the server's certificate authority in certConfigMap",
        ) from None
    except (aiohttp.ClientError, TimeoutError) as e:
        of = f" of {meter.total}" if meter.total else ""
        raise Transient(f"{_shown(source.url)} broke off after {meter.done}{of} bytes: {_words(e)}") from e
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_space(folder, (meter.total or meter.done + 1) - meter.done) from e
    return partial.data


def discard(folder: Path) -> None:
    """Remove what a download has left in `folder`; nothing there is fine."""
    if folder.exists():
        Partial(folder).discard()


async def _fetch(session: aiohttp.ClientSession, source: HttpSource, partial: Partial, record: Record | None, meter: Meter) -> None:
    async with _ask(session, source, record) as response:
        if record is not None and _goes_on(response, record):
            return await _receive(response, partial, record, meter)
        if response.status == 200:
            return await _receive(response, partial, _new_record(source, response), meter)
    # The server has no such range any more: the whole file is asked for.
    partial.discard()
    async with _ask(session, source, None) as response:
        return await _receive(response, partial, _new_record(source, response), meter)


@asynccontextmanager
async def _ask(session: aiohttp.ClientSession, source: HttpSource, record: Record | None) -> AsyncIterator[ClientResponse]:
    """The answer to one GET, redirects followed. What identifies the user goes to the server that was named, and to no other."""
    first = url = source.parsed()
    headers = {hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: "pilvi"}
    if record is not None:
        headers |= {hdrs.RANGE: f"bytes={record.synced}-", hdrs.IF_RANGE: record.validator}
    for _ in range(REDIRECTS):
        own = url.origin() == first.origin()
        secret = [*source.headers, *_authorization(source)] if own else []
        async with session.get(
            url,
            headers=[*headers.items(), *secret],
            proxy=source.proxies.find(url),
            allow_redirects=False,
        ) as response:
            if response.status in (301, 302, 303, 307, 308) and hdrs.LOCATION in response.headers:
                url = _redirected(url, response.headers[hdrs.LOCATION])
                continue
            _refuse(response)
            yield response
            return
    raise UserError(f"{_shown(source.url)} redirects in circles, more than {REDIRECTS} times", hint="use the address of the file itself")


def _authorization(source: HttpSource) -> list[tuple[str, str]]:
    if not source.user and not source.password:
        return []
    return [(hdrs.AUTHORIZATION, aiohttp.encode_basic_auth(source.user, source.password))]


def _redirected(url: URL, location: str) -> URL:
    try:
        target = url.join(URL(location))
    except ValueError as e:
        raise UserError(f"{_shown(str(url))} redirects to what is no URL", hint="use the address of the file itself") from e
    if target.scheme not in ("http", "https") or not target.host or (url.scheme == "https" and target.scheme == "http"):
        raise UserError(
            f"{_shown(str(url))} redirects to {_shown(str(target))}, which is less safe and is not followed", hint="use that address itself"
        )
    return target


def _refuse(response: ClientResponse) -> None:
    """Raise for an answer that holds no data."""
    status, what = response.status, f"{_shown(str(response.url))} answered {response.status} {response.reason or ''}".rstrip()
    if status in (200, 206, 416):
        return
    if status in _BUSY:
        asked = response.headers.get(hdrs.RETRY_AFTER, "")
        raise Transient(what, min(float(asked), 300.0) if asked.isascii() and asked.isdigit() else 1.0)
    if status in (401, 403, 407):
        raise UserError(what, hint="give the user name and password in the Secret that secretRef names, or headers by secretExtraHeaders")
    raise UserError(what, hint="check the URL, for example with curl -I")


def _goes_on(response: ClientResponse, record: Record) -> bool:
    """Whether the answer is the rest of exactly the file that is there in part."""
    if response.status != 206:
        return False
    unit, _, span = response.headers.get(hdrs.CONTENT_RANGE, "").partition(" ")
    place, _, total = span.partition("/")
    same_total = total == "*" or record.total is None or total == str(record.total)
    return (
        unit == "bytes" and place.partition("-")[0] == str(record.synced) and same_total and _validator(response) in ("", record.validator)
    )


def _validator(response: ClientResponse) -> str:
    etag = response.headers.get(hdrs.ETAG, "")
    # A weak tag says that two files mean the same, not that they are the same bytes.
    return etag if etag and not etag.startswith("W/") else response.headers.get(hdrs.LAST_MODIFIED, "")


def _new_record(source: HttpSource, response: ClientResponse) -> Record:
    if response.status != 200:
        raise Transient(f"{_shown(source.url)} answered {response.status} to a request for the whole file")
    return Record(url=source.url, validator=_validator(response), total=response.content_length)


async def _receive(response: ClientResponse, partial: Partial, record: Record, meter: Meter) -> None:
    meter.begin("downloading", record.total, record.synced)
    missing = (record.total or 0) - record.synced
    folder = partial.data.parent
    if missing > (room := shutil.disk_usage(folder).free - ROOM_BYTES):
        raise _no_space(folder, missing - room)
    if not await store(response.content.iter_any(), partial, record, meter):
        raise Transient(f"{_shown(record.url)} ended after {meter.done} of {record.total} bytes")


def _no_space(folder: Path, missing: int) -> NoSpace:
    return NoSpace(
        f"the file system of {folder} lacks {missing} bytes for the download",
        hint="remove disks or images that nobody needs; the download goes on by itself",
    )


def _shown(url: str) -> str:
    """The URL without what may be secret in it: user, password, and the query, which signs it at some stores."""
    try:
        return str(URL(url).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "the server"


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer for {SILENCE_S:g} s"
    return str(error) or type(error).__name__
