from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from pilvi.errors import Transient, UserError
from pilvi.images import ContainerDisk, Credentials, ImageStore, Pulled, PullFailed, Pulling, Pulls, parse_reference, read_docker_config
from pilvi.lib.deadline import wait_for
from tests.images.registry import FakeRegistry, make_layer, serve_registry

DISK = os.urandom(100_000) + bytes(200_000) + os.urandom(1000)
DISK += bytes(-len(DISK) % 512)


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serve_registry() as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


async def pull(store: ImageStore, text: str, policy: str = "IfNotPresent", **options: object) -> ContainerDisk:
    return await store.ensure(parse_reference(text), policy, **options)  # type: ignore[arg-type]


async def test_the_disk_of_an_image(registry: FakeRegistry, store: ImageStore, tmp_path: Path) -> None:
    image = registry.add("a/disk", "1", make_layer({"disk/disk.img": DISK}), architecture="amd64")
    said: list[tuple[int, int]] = []
    disk = await pull(store, image, progress=lambda done, total: said.append((done, total)))
    assert disk.path.read_bytes() == DISK
    assert (disk.format, disk.size_bytes, disk.digest) == ("raw", len(DISK), registry.digest("a/disk", "1"))
    assert disk.path.stat().st_mode & 0o777 == 0o444
    assert disk.path.stat().st_blocks * 512 < len(DISK), "its holes take no room"
    assert said[-1][0] == said[-1][1] > 0
    assert list((tmp_path / "images" / "blobs").iterdir()) == []


async def test_a_disk_ends_with_a_whole_sector(registry: FakeRegistry, store: ImageStore) -> None:
    disk = await pull(store, registry.add("a", "1", make_layer({"disk/a.img": b"x" * 1000})))
    assert disk.path.read_bytes() == b"x" * 1000 + bytes(24)


async def test_a_present_image_asks_nobody_unless_it_moves(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    first = await pull(store, image)
    registry.log.clear()
    assert await pull(store, image) == first
    assert await pull(store, image, "Never") == first
    assert registry.log == []
    assert await pull(store, image, "Always") == first
    assert registry.log == ["GET /v2/a/manifests/1"], "the same image is not loaded again"
    registry.add("a", "1", make_layer({"disk/a.img": bytes(512) + DISK}))
    assert (await pull(store, image, "Always")).path != first.path
    assert first.path.exists(), "a machine may run on it"
    with pytest.raises(UserError, match="policy is Never"):
        await pull(store, f"{registry.host}/other:1", "Never")


async def test_layers_above_hide_those_below(registry: FakeRegistry, store: ImageStore) -> None:
    old, new = make_layer({"disk/old.img": bytes(512)}), make_layer({"disk/.wh.old.img": b"", "disk/new.img": DISK}, packed=False)
    assert (await pull(store, registry.add("a", "1", old, new))).path.read_bytes() == DISK
    gone = registry.add("b", "1", make_layer({"disk/a.img": DISK}), make_layer({"disk/.wh..wh..opq": b""}))
    with pytest.raises(UserError, match="no file below /disk"):
        await pull(store, gone)


async def test_the_path_chooses_among_disks(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK, "disk/b.img": bytes(512), "boot/c.img": bytes(1024)}))
    with pytest.raises(UserError, match="more than one file"):
        await pull(store, image)
    assert (await pull(store, image, path="/disk/a.img")).path.read_bytes() == DISK
    assert (await pull(store, image, path="/boot/c.img")).size_bytes == 1024
    with pytest.raises(UserError, match="no file /nowhere"):
        await pull(store, image, path="/nowhere")


async def test_a_registry_that_breaks_off_goes_on_where_it_ended(registry: FakeRegistry, store: ImageStore) -> None:
    layer = make_layer({"disk/a.img": DISK}, packed=False)
    image = registry.add("a", "1", layer)
    registry.break_after, registry.breaks = 60_000, 5
    assert (await pull(store, image)).path.read_bytes() == DISK
    ranges = [line for line in registry.log if "bytes=" in line]
    assert len(ranges) == 5
    assert "bytes=60000-" in ranges[0]


async def test_one_that_knows_no_ranges_sends_all_again(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}, packed=False))
    registry.break_after, registry.breaks, registry.ranges = 60_000, 2, False
    assert (await pull(store, image)).path.read_bytes() == DISK


async def test_a_pull_that_was_killed_goes_on(registry: FakeRegistry, store: ImageStore, tmp_path: Path) -> None:
    layer = make_layer({"disk/a.img": DISK}, packed=False)
    image = registry.add("a", "1", layer)
    registry.break_after, registry.breaks = 0, 99
    with pytest.raises(Transient, match=r"broke off|sent 0"):
        await pull(store, image)
    (blob,) = (tmp_path / "images" / "blobs").iterdir()
    blob.write_bytes(layer[:70_000])
    registry.breaks = 0
    registry.log.clear()
    await pull(ImageStore(tmp_path / "images"), image)
    assert registry.log[-1].endswith("bytes=70000-")


async def test_a_registry_that_lies_is_not_believed(registry: FakeRegistry, store: ImageStore, tmp_path: Path) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.lies = True
    with pytest.raises(Transient, match="not what its digest says"):
        await pull(store, image)
    assert list((tmp_path / "images" / "disks").iterdir()) == []
    registry.lies = False
    media_type, body = registry.manifests["a", "1"]
    registry.manifests["a", "sha256:" + "0" * 64] = (media_type, body)
    with pytest.raises(UserError, match="another image"):
        await pull(store, f"{registry.host}/a@sha256:{'0' * 64}")


async def test_tokens_and_credentials(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.token, registry.credentials = "secret-token", ("me", "pass")
    with pytest.raises(UserError, match="does not give") as refused:
        await pull(store, image)
    assert refused.value.hint is not None
    assert "imagePullSecret" in refused.value.hint
    assert (await pull(store, image, credentials=Credentials("me", "pass"))).path.read_bytes() == DISK
    assert "pass" not in repr(Credentials("me", "pass"))


async def test_a_token_does_not_follow_to_another_host(registry: FakeRegistry, store: ImageStore) -> None:
    async with serve_registry() as elsewhere:
        image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
        elsewhere.blobs = registry.blobs
        registry.token, registry.blobs_at = "secret-token", f"http://localhost:{elsewhere.host.rpartition(':')[2]}"
        assert (await pull(store, image)).path.read_bytes() == DISK
        assert all("Authorization" not in headers for headers in elsewhere.seen)


@pytest.mark.parametrize(
    ("status", "headers", "error", "words"),
    [
        (404, {}, UserError, "has no .*not now"),
        (403, {}, UserError, "does not give .*not now"),
        (429, {"Retry-After": "7"}, Transient, "answers 429"),
        (503, {}, Transient, "answers 503"),
    ],
)
async def test_refusals(
    registry: FakeRegistry, store: ImageStore, status: int, headers: dict[str, str], error: type[Exception], words: str
) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.refusals = [(status, headers)]
    with pytest.raises(error, match=words) as raised:
        await pull(store, image)
    if headers:
        assert raised.value.retry_after_s == 7  # type: ignore[attr-defined]


async def test_a_registry_that_is_not_there(store: ImageStore) -> None:
    with pytest.raises(Transient, match="does not answer"):
        await pull(store, "127.0.0.1:1/a:1")


async def test_an_image_for_another_processor(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}), architecture="s390x")
    with pytest.raises(UserError, match=r"for linux/s390x"):
        await pull(store, image)


async def test_what_is_no_disk(registry: FakeRegistry, store: ImageStore) -> None:
    for number, content in enumerate((b"tiny", b"QFI\xfb" + bytes(100), b"KDMV" + bytes(1000), b"\x1f\x8b" + bytes(1000))):
        with pytest.raises(UserError, match="the disk of"):
            await pull(store, registry.add("a", str(number), make_layer({"disk/a.img": content})))
    with pytest.raises(UserError, match="damaged"):
        await pull(store, registry.add("a", "cut", make_layer({"disk/a.img": DISK})[:-200]))


async def test_a_full_disk(registry: FakeRegistry, store: ImageStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: real._replace(free=(256 << 20) + 1000))
    with pytest.raises(UserError, match="does not fit"):
        await pull(store, image)
    monkeypatch.undo()
    assert (await pull(store, image)).path.read_bytes() == DISK


@pytest.mark.parametrize(
    "document",
    [
        b'{"manifests": ["x"]}',
        b'{"manifests": 7}',
        b'{"manifests": [{"digest": "sha256:12", "platform": "text"}]}',
        b'{"layers": [{"digest": "sha256:' + b"0" * 64 + b'", "size": 1e999}]}',
        b'{"layers": [{"digest": "nothing", "size": 1}]}',
        b"[" * 100_000,
        b"<html>",
        b"{}",
    ],
)
async def test_nonsense_is_an_error_of_the_image(registry: FakeRegistry, store: ImageStore, document: bytes) -> None:
    registry.manifests["a", "1"] = ("application/json", document)
    with pytest.raises(UserError, match="not what images have"):
        await pull(store, f"{registry.host}/a:1")


@pytest.mark.parametrize("realm", ["http://[bad/token", "http://example.com/token", "file:///etc/passwd", ""])
async def test_credentials_go_to_no_place_that_is_not_safe(registry: FakeRegistry, store: ImageStore, realm: str) -> None:
    registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.refusals = [(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})]
    with pytest.raises(UserError, match="for a token"):
        await pull(store, f"{registry.host}/a:1", credentials=Credentials("me", "pass"))


async def test_every_way_to_ask_for_credentials(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.refusals = [(401, {"WWW-Authenticate": 'Negotiate, Basic realm="x"'})]
    await pull(store, image, credentials=Credentials("me", "pass"))
    assert registry.seen[-1]["Authorization"].startswith("Basic ")
    registry.token = "t"
    registry.refusals = [(401, {"WWW-Authenticate": f"Bearer realm=http://{registry.host}/token,service=x"})]
    await pull(store, image, "Always", credentials=Credentials("me", "pass"))
    registry.refusals = [(401, {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'}), (503, {})]
    with pytest.raises(Transient, match="answers 503"):
        await pull(store, image, "Always")


async def test_images_that_share_a_layer_at_once(registry: FakeRegistry, store: ImageStore) -> None:
    shared = make_layer({"boot/a": os.urandom(200_000)}, packed=False)
    images = [registry.add("a", str(number), make_layer({"disk/a.img": bytes(512 * (number + 1))}), shared) for number in range(3)]
    disks = await asyncio.gather(*(pull(store, image) for image in images))
    assert [disk.size_bytes for disk in disks] == [512, 1024, 1536]


async def test_a_private_image_is_for_those_who_may_pull_it(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    registry.token, registry.credentials = "secret-token", ("me", "pass")
    await pull(store, image, credentials=Credentials("me", "pass"))
    with pytest.raises(UserError, match="does not give"):
        await pull(store, image)
    digest = registry.digest("a", "1")
    with pytest.raises(UserError, match="does not give"):
        await pull(store, f"{registry.host}/a@{digest}", credentials=Credentials("me", "wrong"))


async def test_a_disk_that_says_it_is_huge_costs_nothing(registry: FakeRegistry, store: ImageStore) -> None:
    info = tarfile.TarInfo("disk/a.img")
    info.size = 1 << 42
    with pytest.raises(UserError, match="says that it has 4096 GiB"):
        await pull(store, registry.add("a", "1", gzip.compress(info.tobuf() + bytes(1024))))


async def test_two_at_once_load_once(registry: FakeRegistry, store: ImageStore) -> None:
    image = registry.add("a", "1", make_layer({"disk/a.img": DISK}))
    first, second = await asyncio.gather(pull(store, image), pull(store, image))
    assert first == second
    assert len([line for line in registry.log if "blobs" in line]) == 1


def test_docker_configuration() -> None:
    auth = base64.b64encode(b"me:pa:ss").decode()
    content = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}, "quay.io": {"username": "u", "password": "p"}}})
    assert read_docker_config(content.encode()) == {"docker.io": Credentials("me", "pa:ss"), "quay.io": Credentials("u", "p")}
    with pytest.raises(UserError, match="no docker configuration"):
        read_docker_config(b'{"auths": {"a": {}}}')


class Looker(NamedTuple):
    pulls: Pulls
    image: str

    def look(self) -> Pulled | Pulling | PullFailed:
        return self.pulls.look(parse_reference(self.image), "IfNotPresent")

    async def until(self, kind: type) -> Pulled | Pulling | PullFailed:
        await wait_for(lambda: isinstance(self.look(), kind), 10, kind.__name__)
        return self.look()


async def test_pulls_in_the_background(registry: FakeRegistry, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.images.pulls._FIRST_DELAY_S", 0.2)
    looker = Looker(Pulls(store), registry.add("a", "1", make_layer({"disk/a.img": DISK})))
    registry.refusals = [(404, {})]
    woken: list[str] = []
    looker.pulls.subscribe(lambda reference: woken.append(str(reference)))
    assert looker.look() == Pulling(0, 0)
    task = asyncio.create_task(looker.pulls.run())
    try:
        failed = await looker.until(PullFailed)
        assert isinstance(failed, PullFailed)
        assert (failed.failures, "has no" in failed.message) == (1, True)
        pulled = await looker.until(Pulled)
        assert isinstance(pulled, Pulled)
        assert pulled.disk.path.read_bytes() == DISK
        assert woken == [looker.image] * 2
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
