"""`pilvi vm export`, against a fake API server whose exports are made ready by hand, and the real proxy's way of sending."""

from __future__ import annotations

import base64
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from pilvi.api import JsonObject
from pilvi.errors import TimedOut, UserError
from tests.fake_api import FakeApi
from tests.unit.cli.conftest import Invoke, kubeconfig_of

EXPORTS = "/apis/export.kubevirt.io/v1beta1/namespaces/shop/virtualmachineexports"
DISK = os.urandom(100_000) + bytes(900_000)


class Cloud(FakeApi):
    """Says of each export what `status` is, and serves one disk."""

    def __init__(self) -> None:
        super().__init__()
        self.status: JsonObject = {}
        self.sources: list[JsonObject] = []
        self.body = gzip.compress(DISK)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._handle(request)
        if request.method == "POST" and request.path == EXPORTS:
            (path,) = [path for path in self.objects if path.startswith(EXPORTS)]
            self.sources.append(self.objects[path]["spec"]["source"])
            self.put(path, {**self.objects[path], "status": self.status})
        return answer

    async def disk(self, request: web.Request) -> web.Response:
        if request.headers.get("x-kubevirt-export-token") != "secret":
            raise web.HTTPUnauthorized
        return web.Response(body=self.body)

    def ready(self, url: str, *names: str) -> None:
        volumes = [{"name": name, "formats": [{"format": "gzip", "url": f"{url}/{name}"}]} for name in names]
        self.status = {"phase": "Ready", "tokenSecretRef": "key", "links": {"external": {"cert": "", "volumes": volumes}}}


@pytest_asyncio.fixture
async def cloud(user: Path) -> AsyncIterator[Cloud]:
    api = Cloud()
    await api.start()
    user.write_bytes(kubeconfig_of(api, "pilvi"))
    data = {"token": base64.b64encode(b"secret").decode()}
    api.put("/api/v1/namespaces/shop/secrets/key", {"metadata": {"name": "key", "namespace": "shop"}, "data": data})
    app = web.Application()
    app.router.add_get("/{name}", api.disk)
    async with TestServer(app) as server:
        api.ready(str(server.make_url("")).rstrip("/"), "disk")
        yield api
    await api.stop()


def exports(cloud: Cloud) -> list[str]:
    return [path for path in cloud.objects if path.startswith(EXPORTS)]


@pytest.mark.parametrize(
    ("words", "source"),
    [
        ([], {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}),
        (["--snapshot"], {"apiGroup": "snapshot.kubevirt.io", "kind": "VirtualMachineSnapshot", "name": "web"}),
        (["--pvc", "--volume", "disk"], {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "web"}),
    ],
)
async def test_a_disk_as_a_file(invoke: Invoke, cloud: Cloud, tmp_path: Path, words: list[str], source: JsonObject) -> None:
    file = tmp_path / "web.img"
    file.write_bytes(b"an older one")
    result = await invoke("vm", "export", "shop/web", str(file), *words)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{file} holds the disk, 1000000 bytes.\n"
    assert file.read_bytes() == DISK
    assert cloud.sources == [source]
    assert exports(cloud) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kubeconfig", "web.img"], "nothing half-made stays"


REFUSALS: list[tuple[JsonObject, str]] = [
    (
        {"phase": "Pending", "conditions": [{"type": "Ready", "reason": "InUse", "message": "web is running; stop it"}]},
        "web is running; stop it",
    ),
    ({"phase": "Skipped", "conditions": [{"type": "Ready", "reason": "VMNotFound", "message": "not found"}]}, "not found"),
]


@pytest.mark.parametrize(("status", "words"), REFUSALS)
async def test_what_cannot_be_had_is_said_at_once(invoke: Invoke, cloud: Cloud, tmp_path: Path, status: JsonObject, words: str) -> None:
    cloud.status = status
    result = await invoke("vm", "export", "shop/web", str(tmp_path / "web.img"))
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == words
    assert exports(cloud) == []
    assert not (tmp_path / "web.img").exists()


async def test_a_volume_has_to_be_chosen(invoke: Invoke, cloud: Cloud, tmp_path: Path) -> None:
    cloud.ready("http://127.0.0.1:1", "root", "data")
    for words, said in (([], "there are 2 volumes"), (["--volume", "other"], "there is no volume other")):
        result: Any = await invoke("vm", "export", "shop/web", str(tmp_path / "web.img"), *words)
        assert str(result.exception) == said
        assert result.exception.hint == "say --volume with one of root, data"


async def test_what_is_not_ready_in_time_or_broken_leaves_nothing(invoke: Invoke, cloud: Cloud, tmp_path: Path) -> None:
    file, status = tmp_path / "web.img", cloud.status
    cloud.status = {"phase": "Pending"}
    result = await invoke("vm", "export", "shop/web", str(file), "--timeout", "0.3")
    assert isinstance(result.exception, TimedOut)
    cloud.status, cloud.body = status, cloud.body[:-10]
    result = await invoke("vm", "export", "shop/web", str(file))
    assert "cut off" in str(result.exception)
    assert exports(cloud) == []
    assert [path.name for path in tmp_path.iterdir()] == ["kubeconfig"]
