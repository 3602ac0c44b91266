"""Writes a container image of one layer as an OCI archive, the same bytes for the same files.

Nothing is held in memory beyond one copy buffer: the layer goes to a file beside the archive, hashed while it is written. All entries
belong to root and carry the time zero, because owner and time of a build would change the digest and mean nothing.
All functions block for as long as the disk takes.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

__all__ = ["Entry", "ImageConfig", "write_image"]

_OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Entry:
    """One path in the image, without leading slash: a copy of `source`, or a symlink to `link`, or without both a folder."""

    path: str
    source: Path | None = None
    link: str | None = None
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container runtime needs to know to start it. `user` is `uid:gid`, empty for root."""

    entrypoint: list[str]
    user: str = ""
    env: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def write_image(path: Path, references: Sequence[str], entries: Sequence[Entry], config: ImageConfig) -> None:
    """Write the archive; each of `references` names the same image. Parent folders of entries are added. Raises OSError."""
    with tempfile.TemporaryFile(dir=path.parent) as layer:
        hashing = _HashingWriter(layer)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]  # wants only write()
            for entry in _with_parents(entries):
                _add_entry(tar, entry)
        digest, size = f"sha256:{hashing.digest.hexdigest()}", layer.tell()
        layer.seek(0)
        image = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": config.entrypoint, "User": config.user, "Env": config.env, "Labels": config.labels},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        image_blob, image_descriptor = _blob(f"{_OCI}.config.v1+json", image)
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": image_descriptor,
            "layers": [{"mediaType": f"{_OCI}.layer.v1.tar", "digest": digest, "size": size}],
        }
        manifest_blob, descriptor = _blob(f"{_OCI}.manifest.v1+json", manifest)
        index = {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.index.v1+json",
            "manifests": [{**descriptor, "platform": _PLATFORM, "annotations": _names(reference)} for reference in references],
        }
        with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add_bytes(tar, "oci-layout", msgspec.json.encode({"imageLayoutVersion": "1.0.0"}))
            _add_bytes(tar, "index.json", msgspec.json.encode(index))
            _add_bytes(tar, _blob_path(image_descriptor), image_blob)
            _add_bytes(tar, _blob_path(descriptor), manifest_blob)
            _add_file(tar, f"blobs/sha256/{hashing.digest.hexdigest()}", layer, size, 0o644)


_PLATFORM = {"architecture": "amd64", "os": "linux"}


def _names(reference: str) -> dict[str, str]:
    """What containerd takes as the image's name, and other tools as its tag."""
    return {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference.rpartition(":")[2]}


def _blob(media_type: str, value: object) -> tuple[bytes, dict[str, object]]:
    data = msgspec.json.encode(value, order="sorted")
    return data, {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _blob_path(descriptor: dict[str, object]) -> str:
    return f"blobs/{str(descriptor['digest']).replace(':', '/')}"


def _with_parents(entries: Sequence[Entry]) -> list[Entry]:
    """Sorted by path, so that a folder stands before what is in it. What is given wins over what is implied."""
    paths = {entry.path: entry for entry in entries}
    for entry in entries:
        for parent in Path(entry.path).parents:
            if str(parent) != ".":
                paths.setdefault(str(parent), Entry(str(parent)))
    return [paths[path] for path in sorted(paths)]


def _add_entry(tar: tarfile.TarFile, entry: Entry) -> None:
    if entry.source is not None:
        with entry.source.open("rb") as file:
            _add_file(tar, entry.path, file, entry.source.stat().st_size, entry.mode)
        return
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode
    if entry.link is None:
        info.type = tarfile.DIRTYPE
    else:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
    tar.addfile(info)


def _add_file(tar: tarfile.TarFile, name: str, file: IO[bytes], size: int, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, mode
    tar.addfile(info, file)


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(tar, name, io.BytesIO(data), len(data), 0o644)


class _HashingWriter:
    """Passes bytes on to `file` and hashes them on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)
