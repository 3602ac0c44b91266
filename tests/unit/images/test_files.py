"""Single files of an image, behind layers and links; what is packed with zstd; what goes when nobody names it."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import sys
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.errors import UserError
from pilvi.images import ImageStore, PulledFiles, PullFailed, Pulling, Pulls, parse_reference
from pilvi.images.prune import KEEP_S
from pilvi.lib.deadline import wait_for
from tests.images.registry import FakeRegistry, make_layer, serve_registry

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KERNEL, INITRD = os.urandom(70_000), os.urandom(9000)


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with serve_registry() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def store(folder: Path) -> ImageStore:
    return ImageStore(folder)


def layer(*members: tuple[str, bytes | str], hard: bool = False) -> bytes:
    """A layer: bytes are files, texts are what links lead to, a name with a slash behind it is a folder."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) and content else None)
    return gzip.compress(archive.getvalue(), mtime=0)


async def take(store: ImageStore, image: str, *paths: str) -> list[bytes]:
    return [path.read_bytes() for path in await store.ensure_files(parse_reference(image), "IfNotPresent", paths)]


PLAIN = layer(("boot/vmlinuz", KERNEL), ("boot/initrd", INITRD))


async def test_a_kernel_and_its_initrd(registry: FakeRegistry, store: ImageStore, folder: Path) -> None:
    image = registry.add("a", "1", PLAIN, architecture="amd64")
    kernel, initrd = await store.ensure_files(parse_reference(image), "IfNotPresent", ("/boot/vmlinuz", "boot/initrd"))
    assert (kernel.read_bytes(), initrd.read_bytes()) == (KERNEL, INITRD)
    assert {path.stat().st_mode & 0o777 for path in (kernel, initrd)} == {0o444}
    assert [*(folder / "blobs").iterdir()] == []
    assert len([*(folder / "files").iterdir()]) == 2
    registry.log.clear()
    assert await take(store, image, "/boot/vmlinuz") == [KERNEL]
    assert registry.log == []
    assert await take(store, registry.add("b", "1", PLAIN), "/boot/vmlinuz") == [KERNEL]
    assert len([*(folder / "files").iterdir()]) == 2, "files are kept by their content"


@pytest.mark.parametrize(
    ("layers", "path"),
    [
        ([layer(("vmlinuz", "boot/vmlinuz-6"), ("boot/vmlinuz-6", KERNEL))], "/vmlinuz"),
        ([layer(("usr/lib/modules/6/vmlinuz", KERNEL)), layer(("boot/k", "../lib/modules/6/vmlinuz"), ("lib", "usr/lib"))], "/boot/k"),
        ([layer(("boot/a", KERNEL)), layer(("k", "/../../boot/a"))], "k"),
        ([layer(("boot/a", KERNEL)), layer(("boot/b", "boot/a"), hard=True), layer(("c", "boot/a"))], "/c"),
        ([layer(("k", bytes(10))), layer(("k", KERNEL))], "k"),
        ([layer(("k", bytes(10)), ("k", KERNEL))], "k"),
        ([layer(("boot/k", bytes(10))), layer(("boot/.wh..wh..opq", b""), ("boot/k", KERNEL))], "boot/k"),
        ([layer(("x/k", bytes(10)), ("y/k", KERNEL)), layer(("x", "y"))], "x/k"),
    ],
)
async def test_links_and_layers(registry: FakeRegistry, store: ImageStore, layers: list[bytes], path: str) -> None:
    assert await take(store, registry.add("a", "1", *layers), path) == [KERNEL]


async def test_a_hard_link_is_the_file_of_its_layer(registry: FakeRegistry, store: ImageStore) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("boot/a")
        info.size = len(KERNEL)
        tar.addfile(info, io.BytesIO(KERNEL))
        info = tarfile.TarInfo("boot/b")
        info.type, info.linkname = tarfile.LNKTYPE, "boot/a"
        tar.addfile(info)
    assert await take(store, registry.add("a", "1", archive.getvalue(), layer(("boot/.wh.a", b""))), "boot/b") == [KERNEL]


@pytest.mark.parametrize(
    ("layers", "path", "words"),
    [
        ([PLAIN], "/boot/other", "no file /boot/other$"),
        ([PLAIN], "/boot", "no file /boot$"),
        ([layer(("boot/", b""))], "/boot", "no regular file"),
        ([PLAIN, layer(("boot/.wh.vmlinuz", b""))], "/boot/vmlinuz", "no file"),
        ([PLAIN, layer(("boot/.wh..wh..opq", b""))], "/boot/vmlinuz", "no file"),
        ([PLAIN, layer((".wh.boot", b""))], "/boot/vmlinuz", "no file"),
        ([PLAIN, layer(("boot", "nowhere"))], "/boot/vmlinuz", "no file /nowhere/vmlinuz, to which /boot/vmlinuz leads"),
        ([layer(("a", "b"), ("b", "a"))], "a", "circles"),
        ([layer(("k", "/etc/passwd"))], "k", "no file /etc/passwd"),
        ([layer(("k", "elsewhere"), hard=True)], "k", "no regular file"),
        ([PLAIN[:-300]], "/boot/vmlinuz", "damaged"),
    ],
)
async def test_what_is_not_there(
    registry: FakeRegistry, store: ImageStore, folder: Path, layers: list[bytes], path: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        await take(store, registry.add("a", "1", *layers), path)
    assert [path for name in ("blobs", "files") if (folder / name).is_dir() for path in (folder / name).iterdir()] == []


async def test_layers_packed_with_zstd(registry: FakeRegistry, store: ImageStore) -> None:
    packed = zstd.compress(make_layer({"disk/a.img": bytes(512) * 40, "boot/k": KERNEL}, packed=False))
    image = registry.add("a", "1", packed)
    assert (await store.ensure(parse_reference(image), "IfNotPresent")).size_bytes == 512 * 40
    assert await take(store, image, "boot/k") == [KERNEL]
    with pytest.raises(UserError, match="damaged"):
        await take(store, registry.add("b", "1", packed[:-100]), "boot/k")


async def test_files_are_pulled_in_the_background(registry: FakeRegistry, store: ImageStore) -> None:
    pulls, reference = Pulls(store), parse_reference(registry.add("a", "1", PLAIN))

    def look() -> PulledFiles | Pulling | PullFailed:
        return pulls.look_files(reference, "IfNotPresent", ("boot/vmlinuz", "boot/initrd"))

    assert look() == Pulling(0, 0)
    task = asyncio.create_task(pulls.run())
    await wait_for(lambda: isinstance(look(), PulledFiles), 10, "the files")
    found = look()
    assert isinstance(found, PulledFiles)
    assert [path.read_bytes() for path in found.files] == [KERNEL, INITRD]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def age(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


async def test_what_nobody_names_goes_after_a_day(registry: FakeRegistry, store: ImageStore, folder: Path, tmp_path: Path) -> None:
    named, other, used = (registry.add(name, "1", make_layer({"disk/a.img": os.urandom(512)})) for name in ("named", "other", "used"))
    disks = {image: await store.ensure(parse_reference(image), "IfNotPresent") for image in (named, other, used)}
    kernel = await store.ensure_files(parse_reference(registry.add("k", "1", PLAIN)), "IfNotPresent", ("boot/vmlinuz",))
    (folder / "blobs" / "begun").write_bytes(b"x")
    os.link(disks[used].path, tmp_path / "machine")
    wanted = {parse_reference(named)}
    age(folder, KEEP_S - 60)
    assert await store.prune(wanted) == []
    age(folder, KEEP_S + 60)
    assert await store.prune(wanted) == [disks[other].path.name, kernel[0].name, "begun"]
    assert disks[named].path.exists()
    assert disks[used].path.exists(), "a machine runs from it"
    (tmp_path / "machine").unlink()
    assert await store.prune(wanted) == [disks[used].path.name]
    assert store.find(parse_reference(other)) is None
    assert store.find(parse_reference(named)) == disks[named]
    assert await store.ensure(parse_reference(other), "IfNotPresent") == disks[other], "it is pulled again when it is asked for"


async def test_being_named_counts_from_the_last_time(registry: FakeRegistry, store: ImageStore, folder: Path) -> None:
    reference = parse_reference(registry.add("a", "1", make_layer({"disk/a.img": bytes(512)})))
    await store.ensure(reference, "IfNotPresent")
    age(folder, KEEP_S * 9)
    assert await store.prune({reference}) == []
    assert await store.prune(set()) == [], "its machine was deleted just now"


async def test_the_disk_that_a_tag_meant_before_goes_at_once(registry: FakeRegistry, store: ImageStore) -> None:
    reference = parse_reference(registry.add("a", "1", make_layer({"disk/a.img": bytes(512)})))
    first = await store.ensure(reference, "Always")
    registry.add("a", "1", make_layer({"disk/a.img": bytes(1024)}))
    second = await store.ensure(reference, "Always")
    assert await store.prune({reference}) == [first.path.name]
    assert store.find(reference) == second
