"""The node images of a kit: found by name, built once, carried in the kit's archive. The kit is a folder of empty files here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from pilvi import kit
from pilvi.errors import UserError
from pilvi.node import images
from pilvi.node.images import append_node_images, ensure_node_images, extract_node_images, list_images
from pilvi.node.reference import MANIFEST, NodeImage

VERSION = "v1.37.2"


class FakeKit:
    """A kit of one version whose artefacts have the key `key`, and a builder that makes images of no content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = "k1"
        self.is_built = True
        self.builds = 0

    def get_binary(self, name: str, version: str | None = None) -> Path:
        if not self.is_built:
            raise UserError("the kit's part node is not built")
        return self.root / f"node-{self.key}" / "bin" / name

    async def build(self, version: str, _: object) -> NodeImage:
        self.builds += 1
        folder = self.root / f"node-image-{version}-digest{self.builds}"
        (folder / "root").mkdir(parents=True)
        (folder / "root" / "program").write_text("x")
        os.link(folder / "root" / "program", folder / "root" / "same-program")
        (folder / "root" / "link").symlink_to("program")
        (folder / MANIFEST).write_text("{}")
        return NodeImage(version=version, folder=folder, pause="pause")


@pytest.fixture
def fake_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKit:
    made = FakeKit(tmp_path / "kit")
    made.root.mkdir()
    monkeypatch.setattr(kit, "get_folder", lambda: made.root)
    monkeypatch.setattr(kit, "kubernetes_versions", lambda: [VERSION])
    monkeypatch.setattr(kit, "get_binary", made.get_binary)
    monkeypatch.setattr(kit, "image_archives", lambda _: [made.root / f"images-{made.key}" / "pause.tar"])
    monkeypatch.setattr(images, "ensure_node_image", made.build)
    return made


def states() -> list[str]:
    return [item.state for item in list_images()]


async def test_an_image_is_built_once(fake_kit: FakeKit) -> None:
    assert states() == ["missing"]
    first = await ensure_node_images()
    assert states() == ["built"]
    assert await ensure_node_images() == first
    assert fake_kit.builds == 1


async def test_two_at_once_build_one(fake_kit: FakeKit, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def build(version: str, progress: object) -> NodeImage:
        started.set()
        await go_on.wait()
        return await fake_kit.build(version, progress)

    monkeypatch.setattr(images, "ensure_node_image", build)
    said: list[str] = []
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        first = group.create_task(ensure_node_images())
        await started.wait()
        second = group.create_task(ensure_node_images(said.append))
        await asyncio.sleep(0)
        assert said == ["another pilvi command builds node images"]
        go_on.set()
    assert first.result() == second.result()
    assert fake_kit.builds == 1


async def test_another_kit_needs_another_image(fake_kit: FakeKit) -> None:
    await ensure_node_images()
    fake_kit.key = "k2"
    assert states() == ["missing", "stale"]
    await ensure_node_images()
    assert fake_kit.builds == 2
    assert states() == ["built", "stale"]


async def test_what_is_removed_by_hand_is_missing(fake_kit: FakeKit) -> None:
    [folder] = await ensure_node_images()
    (folder / MANIFEST).unlink()
    assert states() == ["missing"]


async def test_a_damaged_index_is_only_a_lost_memory(fake_kit: FakeKit) -> None:
    await ensure_node_images()
    (fake_kit.root / images.INDEX).write_text("{")
    assert states() == ["missing", "stale"]


def test_without_a_kit_all_are_missing(fake_kit: FakeKit) -> None:
    fake_kit.is_built = False
    assert states() == ["missing"]


async def carry(fake_kit: FakeKit, archive: Path) -> Path:
    """Append the images to an archive as `kit export` writes it, and go to an empty kit; returns where it is."""
    content = fake_kit.root.parent / "kit.json"
    content.write_text("{}")
    with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tar:
        tar.add(content, "kit.json")
    await append_node_images(archive)
    fake_kit.root = fake_kit.root.parent / "elsewhere"
    fake_kit.root.mkdir()
    return fake_kit.root


@pytest.mark.parametrize("name", ["kit.tar", "kit.tar.gz"])
async def test_an_archive_carries_images_as_they_are(name: str, fake_kit: FakeKit, tmp_path: Path) -> None:
    await ensure_node_images()
    root = await carry(fake_kit, tmp_path / name)
    [folder] = await extract_node_images(tmp_path / name)
    assert states() == ["built"]
    assert (folder / "root" / "link").readlink() == Path("program")
    assert (folder / "root" / "program").stat().st_nlink == 2
    assert sorted(path.name for path in root.iterdir()) == [folder.name, images.INDEX]
    assert await extract_node_images(tmp_path / name) == []
    assert fake_kit.builds == 1
    with tarfile.open(tmp_path / name, "r|*") as tar:  # what the kit's own import reads ends before
        assert tar.getnames() == ["kit.json"]


async def test_images_of_another_kit_are_not_taken(fake_kit: FakeKit, tmp_path: Path) -> None:
    await ensure_node_images()
    root = await carry(fake_kit, tmp_path / "kit.tar")
    fake_kit.key = "k2"
    assert await extract_node_images(tmp_path / "kit.tar") == []
    assert list(root.iterdir()) == []


async def test_an_archive_without_images(fake_kit: FakeKit, tmp_path: Path) -> None:
    root = await carry(fake_kit, tmp_path / "kit.tar")
    assert await extract_node_images(tmp_path / "kit.tar") == []
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="device nodes and trusted attributes are root's")
async def test_device_nodes_owners_and_overlays_attributes_survive(fake_kit: FakeKit, tmp_path: Path) -> None:
    [folder] = await ensure_node_images()
    os.mknod(folder / "root" / "whiteout", 0o020000, 0)
    os.chown(folder / "root" / "program", 1234, 1235)
    (folder / "root" / "opaque").mkdir()
    try:
        os.setxattr(folder / "root" / "opaque", "trusted.overlay.opaque", b"y")
        with_attribute = True
    except OSError:
        with_attribute = False  # a file system without them cannot hold a containerd state either
    await carry(fake_kit, tmp_path / "kit.tar")
    [copy] = await extract_node_images(tmp_path / "kit.tar")
    done = await asyncio.to_thread(
        subprocess.run, ["stat", "-c", "%F %t,%T", copy / "root" / "whiteout"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "character special file 0,0\n"
    assert (copy / "root" / "program").stat().st_uid == 1234
    if with_attribute:
        assert os.getxattr(copy / "root" / "opaque", "trusted.overlay.opaque") == b"y"
