"""Images as files: what other tools save is read as it is, and nothing leads out of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import Unusable, UserError
from pilvi.images.bundle import MANIFEST_TYPE, Piece, content_size, hash_content, read_bundle, read_content
from pilvi.images.layers import open_layer
from pilvi.images.wrap import make_layer, open_disk, wrap_files

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER = b"layer" * 300


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """A folder in the OCI layout, made piece by piece."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)

    def blob(self, data: bytes, media_type: str = "x", **more: Any) -> dict[str, Any]:
        (self.folder / "blobs/sha256" / digest_of(data).removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}

    def image(self, layer: bytes = LAYER, **more: Any) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": self.blob(b"{}"), "layers": [self.blob(layer)]}
        return self.blob(json.dumps(document).encode(), MANIFEST_TYPE, **more)

    def index(self, *entries: dict[str, Any]) -> None:
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    def tar(self, path: Path) -> Path:
        with tarfile.open(path, "w") as archive:
            archive.add(self.folder, ".")
        return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def named(name: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": name}}


@pytest.mark.parametrize("packed", [False, True])
def test_a_layout_is_pushed_as_it_lies(layout: Layout, tmp_path: Path, *, packed: bool) -> None:
    entry = layout.image()
    layout.index(entry)
    path = layout.tar(tmp_path / "saved.tar") if packed else layout.folder
    bundle = read_bundle(path)
    assert bundle is not None
    assert (digest_of(bundle.manifest), bundle.media_type) == (entry["digest"], MANIFEST_TYPE)
    assert {name: b"".join(read_content(content)) for name, content in bundle.blobs.items()} == {
        digest_of(LAYER): LAYER,
        digest_of(b"{}"): b"{}",
    }
    assert bundle.size_bytes == len(LAYER) + 2


def test_an_image_is_chosen_by_its_name(layout: Layout) -> None:
    first, second = layout.image(b"one", **named("docker.io/team/app:v1")), layout.image(b"two", **named("v2"))
    layout.index(first, second)
    for name, wanted in (("app:v1", first), ("v2", second)):
        bundle = read_bundle(layout.folder, name)
        assert bundle is not None
        assert digest_of(bundle.manifest) == wanted["digest"]
    with pytest.raises(Unusable, match=r"holds 2 images \(docker\.io/team/app:v1, v2\)"):
        read_bundle(layout.folder, "app:v3")


def test_an_index_comes_with_its_images(layout: Layout) -> None:
    entries = [layout.image(word.encode(), platform={"os": "linux", "architecture": word}) for word in ("amd64", "arm64")]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}).encode()
    layout.index(layout.blob(index, INDEX_TYPE))
    bundle = read_bundle(layout.folder)
    assert bundle is not None
    assert (bundle.media_type, bundle.manifest, set(bundle.children)) == (INDEX_TYPE, index, {entry["digest"] for entry in entries})
    assert {digest_of(b"amd64"), digest_of(b"arm64")} < set(bundle.blobs)


def test_an_index_of_which_one_image_was_saved_is_that_image(layout: Layout) -> None:
    kept = layout.image(b"kept")
    gone = {**kept, "digest": digest_of(b"gone")}
    layout.index(layout.blob(json.dumps({"manifests": [gone, kept]}).encode(), INDEX_TYPE))
    bundle = read_bundle(layout.folder)
    assert bundle is not None
    assert (digest_of(bundle.manifest), bundle.media_type, bundle.children) == (kept["digest"], MANIFEST_TYPE, {})


def test_what_docker_saved_before_it_knew_layouts(tmp_path: Path) -> None:
    path = tmp_path / "old.tar"
    config = b'{"os":"linux"}'
    with tarfile.open(path, "w") as archive:
        manifest = json.dumps([{"Config": "abc.json", "RepoTags": ["app:v1"], "Layers": ["1/layer.tar", "2/layer.tar"]}]).encode()
        for name, data in (("abc.json", config), ("1/layer.tar", b"first"), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        archive.addfile(link)
    bundle = read_bundle(path)
    assert bundle is not None
    document = json.loads(bundle.manifest)
    assert [layer["digest"] for layer in document["layers"]] == [digest_of(b"first")] * 2
    assert document["config"]["digest"] == digest_of(config)
    assert set(bundle.blobs) == {digest_of(b"first"), digest_of(config)}


def test_a_disk_is_no_bundle(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1024))
    assert read_bundle(disk) is None
    assert read_bundle(tmp_path) is None


def _lacks_layer(layout: Layout) -> None:
    layout.index(layout.image())
    (layout.folder / "blobs/sha256" / digest_of(LAYER).removeprefix("sha256:")).unlink()


def _cut_layer(layout: Layout) -> None:
    layout.index(layout.image())
    (layout.folder / "blobs/sha256" / digest_of(LAYER).removeprefix("sha256:")).write_bytes(LAYER[:-1])


def _changed_manifest(layout: Layout) -> None:
    entry = layout.image()
    layout.index(entry)
    (layout.folder / "blobs/sha256" / entry["digest"].removeprefix("sha256:")).write_text("{}")


def _link_out(layout: Layout) -> None:
    secret = layout.folder.parent / "secret"
    secret.write_bytes(LAYER)
    layout.index(layout.image())
    blob = layout.folder / "blobs/sha256" / digest_of(LAYER).removeprefix("sha256:")
    blob.unlink()
    blob.symlink_to(secret)


def _path_in_digest(layout: Layout) -> None:
    layout.index({**layout.image(), "digest": "sha256:../../../etc/passwd"})


def _no_json(layout: Layout) -> None:
    (layout.folder / "index.json").write_text("{")


def _no_images(layout: Layout) -> None:
    layout.index()


def _index_in_itself(layout: Layout) -> None:
    entry = layout.image()
    for _ in range(6):
        entry = layout.blob(json.dumps({"manifests": [entry]}).encode(), INDEX_TYPE)
    layout.index(entry)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lacks_layer, "lacks blob"),
        (_cut_layer, "lacks blob"),
        (_changed_manifest, "a manifest is not what"),
        (_link_out, "lacks blob"),
        (_path_in_digest, "no sha256 digest"),
        (_no_json, "damaged image"),
        (_no_images, "holds 0 images"),
        (_index_in_itself, "without end"),
    ],
)
def test_what_is_damaged_is_refused(layout: Layout, spoil: Any, words: str) -> None:
    spoil(layout)
    with pytest.raises(Unusable, match=words) as refused:
        read_bundle(layout.folder)
    assert refused.value.hint


def test_a_compressed_archive_is_to_be_unpacked(layout: Layout, tmp_path: Path) -> None:
    layout.index(layout.image())
    packed = tmp_path / "saved.tar.gz"
    packed.write_bytes(gzip.compress(layout.tar(tmp_path / "saved.tar").read_bytes()))
    with pytest.raises(Unusable, match="compressed"):
        read_bundle(packed)


def test_a_layer_of_files_is_an_archive_and_always_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * 700)
    two.write_bytes(b"y" * 512)
    content = make_layer({"disk/one": one, "boot/two": two})
    data = b"".join(read_content(content, chunk=100))
    assert content_size(content) == len(data)
    assert hash_content(content) == digest_of(data) == hash_content(make_layer({"boot/two": two, "disk/one": one}))
    layer = tmp_path / "layer.tar"
    layer.write_bytes(data)
    with open_layer(layer, "x") as archive:
        members = {member.name: (member.isdir(), archive.extractfile(member)) for member in archive}
        assert {name: is_folder for name, (is_folder, _) in members.items()} == {
            "boot": True,
            "disk": True,
            "boot/two": False,
            "disk/one": False,
        }
    with tarfile.open(layer) as archive:
        assert archive.extractfile("disk/one").read() == one.read_bytes()  # type: ignore[union-attr]


def test_a_file_that_becomes_shorter_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(Unusable, match="shorter"):
        list(read_content((Piece(path, 0, 2),)))


async def test_the_manifest_names_all_layers_and_says_what_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"k")
    bundle = await wrap_files([{"boot/kernel": path}], {"a": "b"})
    document = json.loads(bundle.manifest)
    assert document["annotations"] == {"a": "b"}
    assert {entry["digest"] for entry in [document["config"], *document["layers"]]} == set(bundle.blobs)


@pytest.mark.parametrize(("data", "words"), [(b"", "0 bytes"), (gzip.compress(bytes(4096)), "compressed with gzip")])
async def test_what_is_no_disk_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(data)
    with pytest.raises(UserError, match=words):
        async with open_disk(path, tmp_path):
            pytest.fail("it was taken")
