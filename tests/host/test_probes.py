"""Probes against real listeners, the HTTPS one with certificates of a real CA."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns, in_netns
from pilvi.host.units import HttpProbe, SocketProbe, TcpProbe
from pilvi.host.units.probes import ask
from pilvi.lib.deadline import wait_for


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A CA, a certificate for 127.0.0.1 and one for clients, as PEM files."""
    for name in ("ca", "other"):
        openssl(
            tmp_path,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
            "-days",
            "2",
            "-addext",
            "keyUsage=critical,keyCertSign",
        )
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        tmp_path,
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=server",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    )
    openssl(
        tmp_path,
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    )
    return tmp_path


FINISHED: list[asyncio.StreamWriter] = []


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        path = (await reader.readline()).split()[1]
        status = {b"/readyz": b"200 OK", b"/bad": b"500 Oops"}.get(path)
        if path == b"/silent":
            await reader.read()
        writer.write(b"nonsense" if path == b"/nonsense" else b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n" if status else b"")
    except (ConnectionError, IndexError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        FINISHED.append(writer)


@asynccontextmanager
async def listening(server: asyncio.Server) -> AsyncIterator[Any]:
    """Serve until every connection that a probe has made is closed on this side too."""
    FINISHED.clear()
    async with server:
        yield server.sockets[0].getsockname()
        await wait_for(lambda: FINISHED, 5, "the first connection to be served")
    await wait_for(lambda: not any(getattr(task.get_coro(), "__name__", "") == "serve" for task in asyncio.all_tasks()), 5, "the last one")


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    async with listening(await asyncio.start_server(serve, "127.0.0.1", 0)) as (_, number):
        yield number


async def test_http(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.host.units.probes.ANSWER_TIMEOUT_S", 0.3)

    async def get(path: str) -> str | None:
        return await ask(HttpProbe(url=f"http://127.0.0.1:{port}{path}"), None)

    assert await get("/readyz") is None
    assert await get("/bad") == "HTTP status 500"
    assert await get("/other") == "connection closed without an answer"
    assert await get("/nonsense") is not None
    assert await get("/silent") == "no answer within 0.3 s"


async def test_https_trusts_only_the_right_ca_and_shows_its_certificate(keys: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=keys / "ca.crt")
    context.load_cert_chain(keys / "server.crt", keys / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    async with listening(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)) as (_, number):
        url = f"https://127.0.0.1:{number}/readyz"
        certificate = {"cert_path": keys / "server.crt", "key_path": keys / "server.key"}
        assert await ask(HttpProbe(url=url, ca_path=keys / "ca.crt", **certificate), None) is None
        assert "CERTIFICATE_VERIFY_FAILED" in (await ask(HttpProbe(url=url, ca_path=keys / "other.crt", **certificate), None) or "")
        assert await ask(HttpProbe(url=url, ca_path=keys / "ca.crt"), None) is not None


async def test_tcp(port: int) -> None:
    assert await ask(TcpProbe(host="127.0.0.1", port=port), None) is None
    assert await ask(TcpProbe(host="127.0.0.1", port=1), None) == "Connection refused"


async def test_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert "No such file" in (await ask(SocketProbe(path=path), None) or "")
    async with listening(await asyncio.start_unix_server(serve, path)):
        assert await ask(SocketProbe(path=path), None) is None


async def test_inside_a_namespace(cloud: Cloud) -> None:
    import socket

    netns = cloud.netns("a")
    await ensure_netns(netns)
    with in_netns(netns):
        listener = socket.create_server(("127.0.0.1", 0))
    async with listening(await asyncio.start_server(serve, sock=listener)) as (_, port):
        assert await ask(HttpProbe(url=f"http://127.0.0.1:{port}/readyz"), netns) is None
        assert await ask(TcpProbe(host="127.0.0.1", port=port), None) == "Connection refused"
    assert "No such file" in (await ask(TcpProbe(host="127.0.0.1", port=port), cloud.netns("none")) or "")
