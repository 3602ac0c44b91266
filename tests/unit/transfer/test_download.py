"""Downloads from servers that break off, lie, refuse and change their minds."""

from __future__ import annotations

import asyncio
import errno
import os
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import NoSpace, Transient, UserError, format_chain
from pilvi.lib.deadline import wait_for
from pilvi.pki import Usage, create_ca, issue
from pilvi.transfer import HttpSource, Meter, Proxies, discard, fetch
from pilvi.transfer import partial as partials
from tests.http_server import HttpServer, http_server

DATA = os.urandom(3 << 20) + b"end"


def source(server: HttpServer, path: str = "/disk.img", **more: Any) -> HttpSource:
    return HttpSource(url=server.url(path), proxies=Proxies(), **more)


def ranges(server: HttpServer) -> list[str]:
    return [headers.get("Range", "") for _, _, headers in server.requests]


async def test_a_file_arrives_whole_and_is_asked_for_once(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}) as server:
        meter = Meter()
        path = await fetch(source(server), tmp_path, meter)
        assert path.read_bytes() == DATA
        assert (meter.done, meter.total, meter.share) == (len(DATA), len(DATA), 1.0)
        assert await fetch(source(server), tmp_path, Meter()) == path
        assert len(server.requests) == 1
        assert {method for method, _, _ in server.requests} == {"GET"}


async def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}, break_after=1 << 20, breaks=2) as server:
        for _ in range(2):
            with pytest.raises(Transient, match="broke off after"):
                await fetch(source(server), tmp_path, Meter())
        path = await fetch(source(server), tmp_path, Meter())
        assert path.read_bytes() == DATA
        assert ranges(server) == ["", f"bytes={1 << 20}-", f"bytes={2 << 20}-"]
        assert server.sent == len(DATA)


async def test_a_killed_download_goes_on_with_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut left behind the last record is not trusted: it is fetched again."""
    monkeypatch.setattr(partials, "SYNC_BYTES", 1 << 20)
    async with http_server(files={"/disk.img": DATA}, break_after=(2 << 20) + 4096, breaks=1) as server:
        with pytest.raises(Transient):
            await fetch(source(server), tmp_path, Meter())
        partial = partials.Partial(tmp_path)
        record = partial.find(source(server).url)
        assert record is not None
        record.synced = 2 << 20
        partials.write_json(tmp_path / "download.json", record)
        with (tmp_path / "download").open("r+b") as file:
            file.seek(2 << 20)
            file.write(b"\0" * 4096)
        path = await fetch(source(server), tmp_path, Meter())
        assert path.read_bytes() == DATA
        assert ranges(server)[-1] == f"bytes={2 << 20}-"


async def test_a_slow_download_is_recorded_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may be killed long before SYNC_BYTES have come."""
    monkeypatch.setattr(partials, "SYNC_S", 0.05)
    async with http_server(files={"/disk.img": DATA}, pause_s=0.01) as server:
        task = asyncio.create_task(fetch(source(server), tmp_path, Meter()))

        def recorded() -> bool:
            found = partials.Partial(tmp_path).find(source(server).url)
            return found is not None and not found.complete and found.synced > 0

        await wait_for(recorded, 30.0, "a record of what has come")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_download_keeps_what_it_has(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}, pause_s=0.02) as server:
        meter = Meter()
        task = asyncio.create_task(fetch(source(server), tmp_path, meter))
        await wait_for(lambda: server.sent >= 1 << 20, 30, "a part of the file")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.pause_s = 0.0
        path = await fetch(source(server), tmp_path, Meter())
        assert path.read_bytes() == DATA
        assert int(ranges(server)[-1].removeprefix("bytes=").removesuffix("-")) > 0


@pytest.mark.parametrize("knob", ["no ranges", "another file", "no etag", "weak etag", "shorter file"])
async def test_where_it_cannot_go_on_it_starts_anew(tmp_path: Path, knob: str) -> None:
    other = os.urandom(2 << 20)
    async with http_server(files={"/disk.img": DATA}, break_after=1 << 20, breaks=1) as server:
        if knob in ("no etag", "weak etag"):
            server.etags["/disk.img"] = "" if knob == "no etag" else 'W/"1"'
        if knob == "shorter file":
            server.etags["/disk.img"] = '"same"'
        with pytest.raises(Transient):
            await fetch(source(server), tmp_path, Meter())
        expected = DATA
        if knob == "no ranges":
            server.ranges = False
        if knob == "another file":
            server.files["/disk.img"] = expected = other
        if knob == "shorter file":  # and the server does not even say that it is another
            server.files["/disk.img"] = expected = other[:1024]
        path = await fetch(source(server), tmp_path, Meter())
        assert path.read_bytes() == expected


async def test_a_server_that_says_no_length(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}, chunked=True, break_after=1 << 20, breaks=1) as server:
        with pytest.raises(Transient):
            await fetch(source(server), tmp_path, Meter())
        meter = Meter()
        path = await fetch(source(server), tmp_path, meter)
        assert path.read_bytes() == DATA


async def test_a_server_that_promises_more_than_it_sends(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}, claim_more=10) as server:
        with pytest.raises(Transient, match="broke off after 3145731 of 3145741 bytes"):
            await fetch(source(server), tmp_path, Meter())


@pytest.mark.parametrize(("status", "kind", "words"), [(404, UserError, "404"), (401, UserError, "secretRef"), (503, Transient, "503")])
async def test_refusals_say_what_and_what_to_do(tmp_path: Path, status: int, kind: type[Exception], words: str) -> None:
    async with http_server(files={"/disk.img": DATA}) as server:
        server.answer(status, **{"Retry-After": "7"})
        with pytest.raises(kind) as caught:
            await fetch(HttpSource(url=server.url("/disk.img?token=secret"), proxies=Proxies()), tmp_path, Meter())
        assert words in format_chain(caught.value)
        assert "secret" not in format_chain(caught.value).replace("secretRef", "").replace("secretExtraHeaders", "")
        if isinstance(caught.value, Transient):
            assert caught.value.retry_after_s == 7


async def test_nobody_listens(tmp_path: Path) -> None:
    async with http_server() as server:
        gone = source(server)
    with pytest.raises(Transient, match="Cannot connect"):
        await fetch(gone, tmp_path, Meter())


async def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.transfer.download.SILENCE_S", 0.2)
    async with http_server(files={"/disk.img": DATA}, pause_s=5.0) as server:
        with pytest.raises(Transient, match=r"no answer for 0\.2 s"):
            await fetch(source(server), tmp_path, Meter())


async def test_credentials_go_to_the_server_that_was_named_only(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}) as other, http_server(user=("ada", "word")) as server:
        server.needed_headers["X-Token"] = "t0p"
        server.redirects["/moved"] = other.url("/disk.img")
        server.redirects["/near"] = "/disk.img"
        server.files["/disk.img"] = DATA
        who: dict[str, Any] = {"user": "ada", "password": "word", "headers": (("X-Token", "t0p"),)}
        await fetch(source(server, "/near", **who), tmp_path / "a", Meter())
        assert server.requests[-1][2]["X-Token"] == "t0p"
        await fetch(source(server, "/moved", **who), tmp_path / "b", Meter())
        assert not {"X-Token", "Authorization"} & {*other.requests[0][2]}
        with pytest.raises(UserError, match="401"):
            await fetch(source(server, user="ada", password="wrong"), tmp_path / "c", Meter())
        assert "t0p" not in repr(source(server, **who))
        assert "word" not in repr(source(server, **who))


@pytest.mark.parametrize("to", ["/circle", "file:///etc/passwd", "ftp://host/x", "http://"])
async def test_redirects_that_are_not_followed(tmp_path: Path, to: str) -> None:
    async with http_server(redirects={"/circle": to}) as server:
        with pytest.raises(UserError, match="redirects"):
            await fetch(source(server, "/circle"), tmp_path, Meter())


async def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = create_ca("authority of the test")
    pair = issue(authority, "server", Usage.SERVER, addresses=[IPv4Address("127.0.0.1")])
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    async with http_server(tls=(tmp_path / "cert", tmp_path / "key"), files={"/disk.img": DATA}) as server:
        with pytest.raises(UserError, match="is not trusted"):
            await fetch(source(server), tmp_path / "a", Meter())
        path = await fetch(source(server, authorities=authority.certificate.decode()), tmp_path / "b", Meter())
        assert path.read_bytes() == DATA
        path = await fetch(source(server, verify=False), tmp_path / "c", Meter())
        assert path.read_bytes() == DATA
        with pytest.raises(UserError, match="not certificates in PEM"):
            await fetch(source(server, authorities="nonsense"), tmp_path / "d", Meter())


async def test_a_full_disk_is_said_before_and_the_download_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with http_server(files={"/disk.img": DATA}) as server:
        with monkeypatch.context() as patch:
            patch.setattr("pilvi.transfer.download.ROOM_BYTES", 1 << 60)
            with pytest.raises(NoSpace, match=r"lacks [0-9]+ bytes"):
                await fetch(source(server), tmp_path, Meter())
        real, left = os.write, [1 << 20]

        def short(fd: int, data: Any) -> int:
            if len(data) >= 1 << 20 and left[0] <= 0:
                raise OSError(errno.ENOSPC, "full")
            left[0] -= len(data)
            return real(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr(partials.os, "write", short)
            with pytest.raises(NoSpace):
                await fetch(source(server), tmp_path, Meter())
        path = await fetch(source(server), tmp_path, Meter())
        assert path.read_bytes() == DATA
        assert ranges(server)[-1].startswith("bytes=")


async def test_discard_leaves_nothing(tmp_path: Path) -> None:
    async with http_server(files={"/disk.img": DATA}) as server:
        await fetch(source(server), tmp_path, Meter())
    discard(tmp_path)
    discard(tmp_path / "absent")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "disk.img", "http://[bad/"])
async def test_what_is_no_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="no URL"):
        await fetch(HttpSource(url=url), tmp_path, Meter())


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("", "example.org", False),
        ("*", "example.org", True),
        ("example.org", "example.org", True),
        (".example.org,x", "cdn.Example.org", True),
        ("example.org", "badexample.org", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
    ],
)
def test_proxies(no_proxy: str, host: str, direct: bool) -> None:
    proxies = Proxies(http="http://proxy:3128", https="http://proxy:3129", no_proxy=no_proxy)
    for scheme, proxy in (("http", "http://proxy:3128"), ("https", "http://proxy:3129")):
        assert proxies.find(HttpSource(url=f"{scheme}://{host}/x").parsed()) == (None if direct else proxy)
