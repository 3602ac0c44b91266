"""Images as files: what other tools save, read so that it can be pushed. Nothing is unpacked; blobs stay where they lie.

Known are a folder in the OCI image layout, the same as a tar archive, and what `docker save` wrote before it used that layout.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from pilvi.errors import Unusable

__all__ = [
    "CONFIG_TYPE",
    "LAYER_TYPE",
    "MANIFEST_TYPE",
    "MANIFEST_TYPES",
    "Bundle",
    "Content",
    "Piece",
    "content_size",
    "hash_content",
    "make_manifest",
    "read_bundle",
    "read_content",
]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPES = (
    MANIFEST_TYPE,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
"""What a name can stand for: an image or an index of images, in OCI's words and in docker's."""
_NAME = "org.opencontainers.image.ref.name"
_DOCKER_NAME = "io.containerd.image.name"
_CHUNK = 1 << 20
_LARGEST_DOCUMENT = 4 << 20
_DEEPEST = 3
HINT = "save it with `podman save --format oci-archive` or `skopeo copy … oci:FOLDER`"


@dataclass(frozen=True)
class Piece:
    """A part of a file."""

    path: Path
    offset: int
    size: int


Content: TypeAlias = tuple[bytes | Piece, ...]
"""A blob, in parts that follow each other."""


@dataclass
class Bundle:
    """An image that can be pushed: blobs by digest, the manifests that its index names by digest, and what its name will stand for."""

    media_type: str
    manifest: bytes
    blobs: dict[str, Content] = field(default_factory=dict)
    children: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of all blobs."""
        return sum(content_size(content) for content in self.blobs.values())


def content_size(content: Content) -> int:
    """Bytes of a blob."""
    return sum(part.size if isinstance(part, Piece) else len(part) for part in content)


def read_content(content: Content, chunk: int = _CHUNK) -> Iterator[bytes]:
    """The bytes of a blob, in pieces of `chunk` at most. Blocks. Raises Unusable when a file has become shorter, OSError."""
    for part in content:
        if isinstance(part, bytes):
            yield part
            continue
        with part.path.open("rb") as file:
            file.seek(part.offset)
            left = part.size
            while left:
                data = file.read(min(chunk, left))
                if not data:
                    raise Unusable(f"{part.path} has become shorter while it was read", hint="try again when nothing writes to it")
                left -= len(data)
                yield data


def hash_content(content: Content) -> str:
    """`sha256:…` of a blob. Blocks."""
    state = hashlib.sha256()
    for data in read_content(content):
        state.update(data)
    return f"sha256:{state.hexdigest()}"


def make_manifest(config: bytes, layers: list[tuple[str, int]], annotations: dict[str, str]) -> tuple[bytes, str]:
    """The manifest of an image with this configuration and these layers (digest, size; not compressed), and the configuration's digest."""
    digest = hash_content((config,))
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest, "size": len(config)},
        "layers": [{"mediaType": LAYER_TYPE, "digest": layer, "size": size} for layer, size in layers],
        **({"annotations": annotations} if annotations else {}),
    }
    return msgspec.json.encode(document), digest


def read_bundle(path: Path, name: str = "") -> Bundle | None:
    """The image in a folder or archive; None when that is neither. `name` chooses among several. Blocks.

    Raises Unusable for one that is damaged or incomplete.
    """
    try:
        if path.is_dir():
            return _read_layout(_Folder(path), path, name) if (path / "index.json").is_file() else None
        if not tarfile.is_tarfile(path):
            return None
        files = _Archive(path)
        if "index.json" in files.members:
            return _read_layout(files, path, name)
        return _read_docker(files, path, name) if "manifest.json" in files.members else None
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise Unusable(f"{path} is a damaged image: {e}", hint=HINT) from e


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, name: str) -> Piece | None:
        path = self._root / name
        return Piece(path, 0, path.stat().st_size) if path.is_file() and path.resolve().is_relative_to(self._root.resolve()) else None


class _Archive:
    """A tar archive that is not compressed: its members are ranges of the file."""

    def __init__(self, path: Path) -> None:
        try:
            with tarfile.open(path, "r:") as archive:
                found = list(archive)
        except tarfile.ReadError as e:
            raise Unusable(f"{path} is a compressed archive", hint="unpack it with gunzip, unxz or unzstd first") from e
        self.members = {member.name.removeprefix("./"): Piece(path, member.offset_data, member.size) for member in found if member.isreg()}
        for member in found:  # docker wrote equal layers once, and links to them
            if member.issym() or member.islnk():
                target = (Path(member.name).parent / member.linkname).as_posix() if member.issym() else member.linkname
                piece = self.members.get(_normal(target))
                if piece is not None:
                    self.members[member.name.removeprefix("./")] = piece

    def find(self, name: str) -> Piece | None:
        return self.members.get(name)


_Files: TypeAlias = _Folder | _Archive


def _normal(name: str) -> str:
    parts: list[str] = []
    for part in Path(name).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _read_layout(files: _Files, path: Path, name: str) -> Bundle:
    index = json.loads(_document(files, "index.json", path))
    entries = [entry for entry in index["manifests"] if entry.get("mediaType", MANIFEST_TYPE) in MANIFEST_TYPES]
    chosen = _choose(entries, lambda entry: _names(entry.get("annotations") or {}), path, name)
    bundle = Bundle(chosen.get("mediaType", MANIFEST_TYPE), _blob(files, chosen, path))
    _collect(files, bundle, bundle.manifest, path, depth=0)
    return bundle


def _names(annotations: dict[str, str]) -> list[str]:
    return [annotations[key] for key in (_DOCKER_NAME, _NAME) if key in annotations]


def _choose(entries: list[Any], names: Callable[[Any], list[str]], path: Path, name: str) -> Any:
    """The one image, or the one of that name (`TAG` or `…NAME:TAG`)."""
    if len(entries) == 1:
        return entries[0]
    fitting = [entry for entry in entries if any(name and (found == name or found.endswith(f"/{name}")) for found in names(entry))]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(found for entry in entries for found in names(entry)[:1]) or "none with a name"
    raise Unusable(
        f"{path} holds {len(entries)} images ({known})", hint="save one image alone, or push it under the name that it has there"
    )


def _collect(files: _Files, bundle: Bundle, manifest: bytes, path: Path, depth: int) -> None:
    """Add what a manifest or an index names."""
    document = json.loads(manifest)
    if depth > _DEEPEST:
        raise Unusable(f"{path} holds an index of indexes without end", hint=HINT)
    for entry in document.get("manifests") or []:
        if files.find(_place(entry)) is None:
            continue  # saved for some platforms only; the registry would refuse an index with holes
        child = _blob(files, entry, path)
        bundle.children[entry["digest"]] = (entry["mediaType"], child)
        _collect(files, bundle, child, path, depth + 1)
    missing = [entry for entry in document.get("manifests") or [] if entry["digest"] not in bundle.children]
    if missing and depth == 0:
        _keep_one(bundle, path)
        return
    for entry in [document["config"], *document["layers"]] if "layers" in document else []:
        piece = files.find(_place(entry))
        if piece is None or piece.size != entry["size"]:
            raise Unusable(f"{path} lacks blob {entry['digest']} of the image", hint=HINT)
        bundle.blobs[entry["digest"]] = (piece,)


def _keep_one(bundle: Bundle, path: Path) -> None:
    """An index whose other platforms were not saved stands for the one image that was."""
    if len(bundle.children) != 1:
        raise Unusable(
            f"{path} holds an image for several platforms, of which some are missing", hint="save it for one platform, or for all"
        )
    ((bundle.media_type, bundle.manifest),) = bundle.children.values()
    bundle.children.clear()


def _read_docker(files: _Archive, path: Path, name: str) -> Bundle:
    chosen = _choose(json.loads(_document(files, "manifest.json", path)), lambda entry: entry.get("RepoTags") or [], path, name)
    config = _document(files, chosen["Config"], path)
    blobs: dict[str, Content] = {}
    layers = []
    for layer in chosen["Layers"]:
        piece = files.find(layer)
        if piece is None:
            raise Unusable(f"{path} lacks {layer} of the image", hint=HINT)
        digest = hash_content((piece,))
        blobs[digest] = (piece,)
        layers.append((digest, piece.size))
    manifest, digest = make_manifest(config, layers, {})
    return Bundle(MANIFEST_TYPE, manifest, {**blobs, digest: (config,)})


def _place(entry: dict[str, str]) -> str:
    algorithm, _, digest = entry["digest"].partition(":")
    if algorithm != "sha256" or not digest.isalnum():
        raise ValueError(f"{entry['digest']!r} is no sha256 digest")
    return f"blobs/{algorithm}/{digest}"


def _blob(files: _Files, entry: dict[str, str], path: Path) -> bytes:
    body = _document(files, _place(entry), path)
    if hash_content((body,)) != entry["digest"]:
        raise Unusable(f"{path} is a damaged image: a manifest is not what {entry['digest']} says", hint=HINT)
    return body


def _document(files: _Files, name: str, path: Path) -> bytes:
    piece = files.find(name)
    if piece is None:
        raise Unusable(f"{path} is an incomplete image: it lacks {name}", hint=HINT)
    if piece.size > _LARGEST_DOCUMENT:
        raise Unusable(f"{name} in {path} is larger than any manifest", hint=HINT)
    return b"".join(read_content((piece,)))
