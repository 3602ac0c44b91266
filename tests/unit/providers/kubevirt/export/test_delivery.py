"""Downloads, as virtctl, curl and other clouds make them: who gets what, and who is cut off."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml

from pilvi.api import JsonObject
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.export import delivery as delivery_module
from pilvi.providers.kubevirt.export.kinds import EXPORTS, INSTANCES, MACHINES, PODS, SECRETS
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.export.scene import (
    MIB,
    TOKEN,
    add_disk,
    make_export,
    make_secret,
    make_vm,
    pod_of,
    scene,
    status,
    until_ready,
)
from tests.unit.providers.stage import Stage

HEAD = os.urandom(300_000)
DISK = HEAD + bytes(4 * MIB - len(HEAD))


async def ready(stage: Stage, data: bytes = HEAD, size_bytes: int = 4 * MIB) -> Path:
    file = add_disk(stage, data=data, size_bytes=size_bytes)
    stage.put(SECRETS, make_secret())
    stage.put(EXPORTS, make_export())
    await until_ready(stage)
    return file


async def test_a_disk_comes_raw_and_compressed(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        async with proxy.get("volumes/disk/disk.img") as answer:
            assert (answer.status, answer.content_length, answer.headers["Accept-Ranges"]) == (200, 4 * MIB, "bytes")
            assert await answer.read() == DISK
            tag = answer.headers["ETag"]
        async with proxy.get("volumes/disk/disk.img.gz") as answer:
            assert (answer.status, answer.content_type, "Content-Encoding" in answer.headers) == (200, "application/gzip", False)
            assert gzip.decompress(await answer.read()) == DISK
        for path, length in (("volumes/disk/disk.img", 4 * MIB), ("volumes/disk/disk.img.gz", None)):
            async with proxy.get(path, "HEAD") as answer:
                assert (answer.status, answer.content_length, await answer.read()) == (200, length, b"")
        async with proxy.get("volumes/disk/disk.img", "POST") as answer:
            assert answer.status == 405
        assert tag.startswith('"')


RANGES: list[tuple[dict[str, str], int, slice]] = [
    ({"Range": "bytes=0-0"}, 206, slice(0, 1)),
    ({"Range": "bytes=299990-"}, 206, slice(299990, None)),
    ({"Range": f"bytes={MIB - 1}-{3 * MIB}"}, 206, slice(MIB - 1, 3 * MIB + 1)),
    ({"Range": "bytes=-7"}, 206, slice(-7, None)),
    ({"Range": "bytes=5-99999999"}, 206, slice(5, None)),
    ({"Range": "bytes=9-3"}, 200, slice(None)),
    ({"Range": "lines=1-2"}, 200, slice(None)),
    ({"Range": "bytes=7-", "If-Range": '"other"'}, 200, slice(None)),
]


@pytest.mark.parametrize(("headers", "code", "part"), RANGES)
async def test_ranges(fake_api: FakeApi, tmp_path: Path, headers: dict[str, str], code: int, part: slice) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        async with proxy.get("volumes/disk/disk.img", **headers) as answer:
            body = await answer.read()
            assert answer.status == code
            assert body == DISK[part]
            if code == 206:
                start, stop, _ = part.indices(len(DISK))
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DISK)}"


async def test_a_range_beyond_the_end(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        async with proxy.get("volumes/disk/disk.img", Range=f"bytes={4 * MIB}-") as answer:
            assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{4 * MIB}")


async def test_a_download_that_broke_off_goes_on_with_the_same_disk_only(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        file = await ready(stage)
        async with proxy.get("volumes/disk/disk.img", Range="bytes=0-9") as answer:
            tag = answer.headers["ETag"]
        more = {"Range": "bytes=10-", "If-Range": tag}
        async with proxy.get("volumes/disk/disk.img", **more) as answer:
            assert (answer.status, await answer.read()) == (206, DISK[10:])
        rewrite(file)
        async with proxy.get("volumes/disk/disk.img", **more) as answer:
            assert answer.status == 200


def rewrite(file: Path) -> None:
    with file.open("r+b") as disk:
        disk.write(b"new")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))  # a clock may be too coarse to show it


KEYS: list[tuple[str | None, str | None, int]] = [
    (TOKEN, None, 200),
    (None, TOKEN, 200),
    ("wrong", TOKEN, 200),
    (None, None, 401),
    ("", "", 401),
    (TOKEN[:-1], None, 401),
    (TOKEN + "x", None, 401),
    ("ä" * 9, None, 401),
]


@pytest.mark.parametrize(("header", "query", "code"), KEYS)
async def test_only_who_has_the_token(fake_api: FakeApi, tmp_path: Path, header: str | None, query: str | None, code: int) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        path = "volumes/disk/disk.img" + ("" if query is None else f"?x-kubevirt-export-token={query}")
        async with proxy.get(path, **{"x-kubevirt-export-token": header}) as answer:
            assert answer.status == code
            if code == 401:
                assert "status.tokenSecretRef" in await answer.text()


async def test_an_empty_token_opens_nothing(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        stage.put(SECRETS, make_secret(""))
        await stage.until(lambda: status(stage)["phase"] == "Pending")
        for given in ("", None):
            async with proxy.get("volumes/disk/disk.img", **{"x-kubevirt-export-token": given}) as answer:
                assert answer.status == 401


PATHS = [
    ("volumes/other/disk.img", 404),
    ("volumes/disk/other.img", 404),
    ("volumes/..%2Fdisk/disk.img", 404),
    ("volumes/%2e%2e/disk.img", 404),
    ("volumes/disk%00/disk.img", 404),
    ("volumes/disk/disk.img/", 404),
    ("external/manifests/all", 404),
    ("elsewhere/manifests/secret", 404),
    ("../none/volumes/disk/disk.img", 401),
]


@pytest.mark.parametrize(("path", "code"), PATHS)
async def test_paths_lead_to_what_the_export_holds_only(fake_api: FakeApi, tmp_path: Path, path: str, code: int) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        add_disk(stage, "other")
        async with proxy.get(path) as answer:
            assert answer.status == code


async def test_what_is_not_ready_is_not_given_and_says_why(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        file = await ready(stage)
        stage.put(PODS, pod_of("disk"))
        await stage.until(lambda: status(stage)["phase"] == "Pending")
        for path in ("volumes/disk/disk.img", "volumes/disk/disk.img.gz", "internal/manifests/secret"):
            async with proxy.get(path) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
                assert "in use by Pod virt-launcher-x" in await answer.text()
        stage.put(PODS, pod_of("disk", "Failed"))
        await until_ready(stage)
        file.unlink()
        async with proxy.get("volumes/disk/disk.img") as answer:
            assert (answer.status, "cannot be read" in await answer.text()) == (500, True)


def starts_with(stage: Stage, _file: Path) -> None:
    stage.put(PODS, pod_of("disk"))


def is_written(_stage: Stage, file: Path) -> None:
    rewrite(file)


def is_deleted(stage: Stage, _file: Path) -> None:
    stage.api.remove("/apis/export.kubevirt.io/v1beta1/namespaces/team/virtualmachineexports/out")


def is_made_anew(stage: Stage, _file: Path) -> None:
    stage.api.remove("/api/v1/namespaces/team/persistentvolumeclaims/disk")
    add_disk(stage)


@pytest.mark.parametrize("happens", [starts_with, is_written, is_deleted, is_made_anew])
@pytest.mark.parametrize("name", ["disk.img", "disk.img.gz"])
async def test_a_reader_is_cut_off_and_sees_it(fake_api: FakeApi, tmp_path: Path, name: str, happens: Any) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        # More than fits into the buffers between both, and does not get smaller when it is packed.
        file = await ready(stage, os.urandom(24 * MIB), 64 * MIB)
        async with proxy.get(f"volumes/disk/{name}") as answer:
            assert answer.status == 200
            assert len(await answer.content.readexactly(100)) == 100
            happens(stage, file)
            await stage.settled()
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        await wait_for(lambda: open_files(file) == 0, 30, "the disk to be let go")


def open_files(file: Path) -> int:
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry).removesuffix(" (deleted)"))
        except FileNotFoundError:
            continue
    return links.count(str(file))


@pytest.mark.parametrize("name", ["disk.img", "disk.img.gz"])
async def test_who_does_not_read_is_cut_off_and_who_hangs_up_is_forgotten(fake_api: FakeApi, tmp_path: Path, name: str) -> None:
    async with scene(fake_api, tmp_path, stall_s=0.3) as (stage, proxy):
        file = await ready(stage, os.urandom(24 * MIB), 24 * MIB)
        async with proxy.get(f"volumes/disk/{name}") as asleep:
            await wait_for(lambda: open_files(file) == 0, 10.0, "the silent client to be given up")
            with pytest.raises(aiohttp.ClientError):
                await asleep.read()
        async with proxy.get(f"volumes/disk/{name}") as gone:
            await gone.content.readexactly(10)
            gone.close()
        await wait_for(lambda: open_files(file) == 0, 10.0, "the client that hung up to be given up")


async def test_no_more_than_so_many_at_a_time(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "AT_ONCE", 1)
    async with scene(fake_api, tmp_path) as (stage, proxy):
        file = await ready(stage, os.urandom(24 * MIB), 24 * MIB)
        async with proxy.get("volumes/disk/disk.img") as first:
            async with proxy.get("volumes/disk/disk.img") as answer:
                assert (answer.status, "try again" in await answer.text()) == (503, True)
            assert len(await first.read()) == 24 * MIB
        await wait_for(lambda: open_files(file) == 0, 30, "the first to end")
        async with proxy.get("volumes/disk/disk.img", Range="bytes=0-0") as answer:
            assert answer.status == 206


async def machine(stage: Stage, **spec: Any) -> None:
    await ready(stage)
    stage.put(MACHINES, make_vm({"name": "root", "dataVolume": {"name": "disk"}}, **spec))
    stage.api.remove("/apis/export.kubevirt.io/v1beta1/namespaces/team/virtualmachineexports/out")
    stage.put(EXPORTS, make_export("VirtualMachine", "web"))
    await stage.until(lambda: status(stage).get("virtualMachineName") == "web")
    await until_ready(stage)


async def test_the_manifests_of_a_machine(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await machine(stage)
        for where in ("external", "internal"):
            async with proxy.get(f"{where}/manifests/all") as answer:
                as_json = msgspec.json.decode(await answer.read())
            async with proxy.get(f"{where}/manifests/all", Accept="application/yaml") as answer:
                text = await answer.text()
            async with proxy.get(f"{where}/manifests/secret", Accept="application/yaml") as answer:
                text += await answer.text()
            found = [obj for obj in yaml.safe_load_all(text) if obj]
            assert as_json["items"] == found[:3]
            assert [obj["kind"] for obj in found] == ["ConfigMap", "VirtualMachine", "DataVolume", "Secret"]
            assert found[3]["stringData"] == {"token": f"x-kubevirt-export-token:{TOKEN}"}
            assert found[3]["metadata"]["name"] == found[2]["spec"]["source"]["http"]["secretExtraHeaders"][0]
        vmi: JsonObject = {"metadata": {"name": "web", "namespace": "team"}, "spec": {}, "status": {"phase": "Running"}}
        stage.put(INSTANCES, vmi)
        await stage.until(lambda: status(stage)["phase"] == "Pending")
        async with proxy.get("external/manifests/all") as answer:
            assert (answer.status, "is running" in await answer.text()) == (503, True)


async def test_an_instancetype_that_is_gone_is_told(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await machine(stage, instancetype={"name": "gone", "kind": "VirtualMachineInstancetype"})
        async with proxy.get("external/manifests/all") as answer:
            assert (answer.status, "instancetype" in await answer.text()) == (409, True)


async def test_both_versions_have_paths(fake_api: FakeApi, tmp_path: Path) -> None:
    async with scene(fake_api, tmp_path) as (stage, proxy):
        await ready(stage)
        async with proxy.get("../../../../../v1/namespaces/team/virtualmachineexports/out/volumes/disk/disk.img") as answer:
            assert answer.status == 200
        async with proxy.get("../../../../../v1alpha1/namespaces/team/virtualmachineexports/out/volumes/disk/disk.img") as answer:
            assert answer.status == 404
