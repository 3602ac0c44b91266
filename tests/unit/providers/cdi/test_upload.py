"""Uploads, as virtctl makes them: a token, then the data, then the disk is whole."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pilvi.api import Key
from pilvi.engine.serve.aggregation import status_of
from pilvi.engine.serve.upload import make_application
from pilvi.errors import PilviError
from pilvi.providers import cdi
from pilvi.providers.cdi.kinds import CLAIMS, CONFIGS, DATA_VOLUMES, READY, UPLOAD_SOURCES
from pilvi.providers.cdi.upload import Tokens
from pilvi.providers.claims import annotations_of
from tests.fake_api import FakeApi
from tests.unit.providers.cdi.scene import MIB, Storage, content, make_data_volume, phase, scene, told
from tests.unit.providers.stage import Stage

DISK = os.urandom(300_000) + bytes(8 * MIB - 300_000)


class Client:
    """What virtctl does. `token` is asked of the API, `send` goes to the proxy."""

    def __init__(self, session: aiohttp.ClientSession, api: str, proxy: str) -> None:
        self.session, self.api, self.proxy = session, api, proxy

    async def token(self, claim: str = "disk") -> tuple[int, Any]:
        body = {"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest", "metadata": {"name": "x"}}
        path = "/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/team/uploadtokenrequests"
        async with self.session.post(self.api + path, json={**body, "spec": {"pvcName": claim}}) as response:
            answer = await response.json()
            return response.status, answer["status"]["token"] if response.status == 201 else answer["message"]

    async def send(self, token: str, data: Any, path: str = "upload", method: str = "POST") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        async with self.session.request(method, f"{self.proxy}/v1beta1/{path}", data=data, headers=headers) as response:
            return response.status, await response.text()


@asynccontextmanager
async def upload_scene(api: FakeApi, home: Path) -> AsyncIterator[tuple[Stage, Storage, Client]]:
    async with scene(api, home) as (stage, storage):
        group, reception = cdi.uploads(stage.platform)
        (endpoint,) = group.endpoints

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await endpoint.handle(request)
            except PilviError as e:
                status = status_of(e, request)
                return web.json_response(status, status=status["code"])

        app = web.Application()
        app.router.add_post(f"/apis/{group.name}/{group.versions[0]}{endpoint.path}", handle)
        async with TestServer(app) as tokens, TestServer(make_application(reception)) as proxy, aiohttp.ClientSession() as session:
            yield stage, storage, Client(session, str(tokens.make_url("")).rstrip("/"), str(proxy.make_url("")).rstrip("/"))


async def ready(stage: Stage) -> None:
    stage.put(DATA_VOLUMES, make_data_volume(source={"upload": {}}))
    await stage.until(lambda: phase(stage) == "UploadReady")


async def test_an_upload_from_token_to_disk(fake_api: FakeApi, tmp_path: Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image"
    raw.write_bytes(DISK)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    async with upload_scene(fake_api, tmp_path) as (stage, storage, client):
        await stage.until(lambda: "uploadProxyURL" in str(stage.find(CONFIGS, "config")))
        assert stage.get(CONFIGS, "config")["status"]["uploadProxyURL"] == "https://10.250.0.2:9447"
        await ready(stage)
        assert annotations_of(stage.get(CLAIMS, "disk", "team"))[READY] == "true"
        assert "virtctl image-upload" in told(stage, "Running")["message"]
        status, token = await client.token()
        assert status == 201
        assert (await client.send(token, None, "upload-async", "HEAD"))[0] == 200
        assert await client.send(token, gzip.compress(image.read_bytes())) == (200, "")
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage) == DISK + bytes(8 * MIB)
        assert annotations_of(stage.get(CLAIMS, "disk", "team"))[READY] == "false"
        assert (await client.send(token, DISK))[0] == 409
        assert (await client.token())[0] == 409
        await stage.until(lambda: not [*(tmp_path / "imports").iterdir()])


async def test_what_arrived_is_taken_up_by_the_next_engine(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pilvi.providers.cdi.population.controller.LOOK_AGAIN_S", 60.0)  # this one does not look again
        async with upload_scene(fake_api, tmp_path) as (stage, _, client):
            await ready(stage)
            _, token = await client.token()
            assert await client.send(token, DISK, "upload-async") == (200, "")
            assert phase(stage) == "UploadReady"
            assert (await client.send(token, DISK, "upload-async"))[0] == 409
    async with upload_scene(fake_api, tmp_path) as (stage, storage, _):
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage)[: len(DISK)] == DISK


async def test_what_is_no_image_is_refused_and_can_be_sent_again(fake_api: FakeApi, tmp_path: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", tmp_path / "q", "4M"], check=True)
    async with upload_scene(fake_api, tmp_path) as (stage, storage, client):
        await ready(stage)
        _, token = await client.token()
        status, text = await client.send(token, (tmp_path / "q").read_bytes())
        assert (status, "needs another file" in text) == (400, True)
        await stage.until(lambda: told(stage, "Running").get("reason") == "TransferRefused")
        assert phase(stage) == "UploadReady"
        assert await client.send(token, DISK) == (200, "")
        await stage.until(lambda: phase(stage) == "Succeeded")
        assert content(stage, storage)[: len(DISK)] == DISK


async def test_what_the_proxy_refuses(fake_api: FakeApi, tmp_path: Path) -> None:
    async with upload_scene(fake_api, tmp_path) as (stage, _, client):
        assert (await client.token())[0] == 404
        await ready(stage)
        _, token = await client.token()
        assert (await client.send("nonsense", DISK))[0] == 401
        assert (await client.send(token, DISK, "upload-archive"))[0] == 400

        large = bytes(100 * MIB)
        assert (await client.send(token, large))[0] == 413

        async def of_unknown_length() -> AsyncIterator[bytes]:
            for _ in range(25):
                yield large[: 4 * MIB]

        assert (await client.send(token, of_unknown_length()))[0] == 413
        await stage.until(lambda: not any((tmp_path / "imports").glob("*/download")))
        assert phase(stage) == "UploadReady"
        stage.put(DATA_VOLUMES, make_data_volume("empty", source={"blank": {}}))
        await stage.until(lambda: phase(stage, "empty") == "Succeeded")
        assert (await client.token("empty"))[0] == 409


async def test_a_client_that_hangs_up_leaves_nothing(fake_api: FakeApi, tmp_path: Path) -> None:
    async with upload_scene(fake_api, tmp_path) as (stage, _, client):
        await ready(stage)
        _, token = await client.token()
        sending = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield bytes(2 * MIB)
            sending.set()
            await asyncio.sleep(60)

        task = asyncio.create_task(client.send(token, slow()))
        await sending.wait()
        await stage.until(lambda: any((tmp_path / "imports").glob("*/download")))
        assert (await client.send(token, DISK))[0] == 409
        task.cancel()
        await stage.until(lambda: not any((tmp_path / "imports").glob("*/download")))
        assert await client.send(token, DISK) == (200, "")
        await stage.until(lambda: phase(stage) == "Succeeded")


async def test_a_claim_deleted_meanwhile_leaves_nothing(fake_api: FakeApi, tmp_path: Path) -> None:
    async with upload_scene(fake_api, tmp_path) as (stage, _, client):
        await ready(stage)
        _, token = await client.token()
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield bytes(2 * MIB)
            await go_on.wait()
            yield bytes(2 * MIB)

        task = asyncio.create_task(client.send(token, slow()))
        await stage.until(lambda: any((tmp_path / "imports").glob("*/download")))
        fake_api.remove(DATA_VOLUMES.object_path(Key("team", "disk")))
        await stage.platform.client.delete(CLAIMS, Key("team", "disk"))
        await stage.until(lambda: stage.find(CLAIMS, "disk", "team") is None)
        go_on.set()
        assert (await task)[0] == 404
        assert [*(tmp_path / "imports").iterdir()] == []


async def test_a_claim_that_refers_to_an_upload_source(fake_api: FakeApi, tmp_path: Path) -> None:
    reference = {"apiGroup": "cdi.kubevirt.io", "kind": "VolumeUploadSource", "name": "what"}
    spec = {"dataSourceRef": reference, "resources": {"requests": {"storage": "16Mi"}}, "accessModes": ["ReadWriteOnce"]}
    async with upload_scene(fake_api, tmp_path) as (stage, storage, client):
        stage.put(UPLOAD_SOURCES, {"metadata": {"name": "what", "namespace": "team"}, "spec": {}})
        stage.put(CLAIMS, {"metadata": {"name": "disk", "namespace": "team"}, "spec": spec})
        await stage.until(lambda: annotations_of(stage.get(CLAIMS, "disk", "team")).get(READY) == "true")
        _, token = await client.token()
        assert await client.send(token, DISK) == (200, "")
        await stage.until(lambda: stage.get(CLAIMS, "disk", "team")["spec"].get("volumeName"))
        assert content(stage, storage)[: len(DISK)] == DISK


async def test_tokens_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilvi.providers.cdi.upload import tokens as module
    from pilvi.providers.cdi.upload.tokens import Grant

    tokens = Tokens()
    grant = Grant(Key("team", "disk"), "uid")
    token = tokens.issue(grant)
    assert tokens.find(token) == grant
    assert tokens.find(token + "x") is None
    monkeypatch.setattr(module, "LIFE_S", -1.0)
    assert tokens.find(tokens.issue(grant)) is None
