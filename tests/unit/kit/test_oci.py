import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pilvi.kit.oci import Entry, ImageConfig, write_image

REFERENCE = "registry.k8s.io/thing:v1"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(os.urandom(300_000))
    return path


def write(path: Path, program: Path, references: list[str] | None = None) -> Path:
    entries = [Entry("usr/bin/program", program), Entry("bin", link="usr/bin"), Entry("usr/bin/etc", program, mode=0o644)]
    config = ImageConfig(["/usr/bin/program"], user="65535:65535", env=["PATH=/bin"], labels={"a": "b"})
    write_image(path, references or [REFERENCE], entries, config)
    return path


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member)) is not None}


def blob(content: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    data = content["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(data) == descriptor["size"]
    assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
    return data


def test_every_descriptor_leads_to_its_blob(tmp_path: Path, program: Path) -> None:
    content = read(write(tmp_path / "image.tar", program))
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(content["index.json"])["manifests"]
    assert entry["annotations"] == {"io.containerd.image.name": REFERENCE, "org.opencontainers.image.ref.name": "v1"}
    manifest = json.loads(blob(content, entry))
    config = json.loads(blob(content, manifest["config"]))
    (layer,) = manifest["layers"]
    blob(content, layer)
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"] == {"Entrypoint": ["/usr/bin/program"], "User": "65535:65535", "Env": ["PATH=/bin"], "Labels": {"a": "b"}}
    assert len(content) == 5


def test_the_layer_holds_the_tree_of_root(tmp_path: Path, program: Path) -> None:
    content = read(write(tmp_path / "image.tar", program))
    manifest = json.loads(blob(content, json.loads(content["index.json"])["manifests"][0]))
    with tarfile.open(fileobj=io.BytesIO(blob(content, manifest["layers"][0]))) as layer:
        members = {member.name: member for member in layer}
        file = layer.extractfile("usr/bin/program")
        assert file is not None
        assert file.read() == program.read_bytes()
    assert list(members) == ["bin", "usr", "usr/bin", "usr/bin/etc", "usr/bin/program"]  # parents first
    assert members["usr"].isdir()
    assert members["usr"].mode == 0o755
    assert (members["bin"].issym(), members["bin"].linkname) == (True, "usr/bin")
    assert (members["usr/bin/program"].mode, members["usr/bin/etc"].mode) == (0o755, 0o644)
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in members.values()} == {(0, 0, 0, "")}


def test_the_same_files_give_the_same_bytes(tmp_path: Path, program: Path) -> None:
    first = write(tmp_path / "first.tar", program).read_bytes()
    program.touch()
    assert write(tmp_path / "second.tar", program).read_bytes() == first


def test_one_image_may_have_two_names(tmp_path: Path, program: Path) -> None:
    index = json.loads(read(write(tmp_path / "image.tar", program, [REFERENCE, "registry.k8s.io/thing:v2"]))["index.json"])
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [REFERENCE, "registry.k8s.io/thing:v2"]
    assert len({entry["digest"] for entry in index["manifests"]}) == 1


def test_nothing_but_the_archive_is_left(tmp_path: Path, program: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder / "image.tar", program)
    assert os.listdir(folder) == ["image.tar"]
