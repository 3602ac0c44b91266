"""Reads the layers of an image, and finds the one disk file in them, without unpacking anything else.

A layer is a tar archive, mostly compressed. Names in it are only compared: nothing is ever written under a name that an image chose.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Protocol

from pilvi.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["FOLDER", "Hidden", "copy_file", "is_whiteout", "name_of", "note_removal", "open_layer", "take_disk"]

FOLDER = "disk"
"""Where a container disk has its file, by KubeVirt's convention."""
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_CHUNK = 1 << 20
# Both bound how long a made-up image keeps a thread: zeros cost nothing to send.
_LARGEST_DISK = 64 << 30
_LARGEST_PADDING = 1 << 30
_BLOCK = 4096
_GZIP, _ZSTD = b"\x1f\x8b", b"(\xb5/\xfd"


@dataclass
class Hidden:
    """What the layers above have removed: files, and all that is below folders."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def hides(self, name: str) -> bool:
        """Whether a file of a layer below is not to be seen."""
        return name in self.files or any(str(parent) in self.folders | self.files for parent in PurePosixPath(name).parents)


def take_disk(layer: Path, wanted: str | None, hidden: Hidden, target: BinaryIO, largest: Callable[[], int], what: str) -> str | None:
    """Copy the disk in this layer to `target`, holes kept; its sha256 in hex, or None when the layer has none. Blocks.

    `wanted` is the path in the image, None for the only file below /disk. `hidden` is what the layers above have removed; what this one
    removes is added. `largest()` is how many bytes there is room for now. Raises UserError for an image that is none, that has two
    disks, or that does not fit.
    """
    found: str | None = None
    removed = Hidden()
    with open_layer(layer, what) as archive:
        for member in archive:
            name = name_of(member)
            note_removal(name, removed)
            if hidden.hides(name) or not _is_wanted(name, wanted) or is_whiteout(name):
                continue
            if not member.isreg():
                if wanted is None and member.isdir():
                    continue
                raise UserError(f"/{name} in {what} is no regular file", hint="put the disk itself there")
            if found is not None:
                raise UserError(f"{what} has more than one file below /{FOLDER}", hint="name one in containerDisk.path")
            content = archive.extractfile(member)
            if content is not None:
                found = copy_file(content, member.size, target, largest, f"the disk of {what}")
    hidden.files |= removed.files
    hidden.folders |= removed.folders
    return found


@contextlib.contextmanager
def open_layer(layer: Path, what: str) -> Iterator[tarfile.TarFile]:
    """The archive of a layer, to be read once from beginning to end. Raises UserError for a damaged one, also while it is read."""
    try:
        with layer.open("rb") as file, tarfile.open(fileobj=_Bounded(_unpacked(file)), mode="r|") as archive:  # type: ignore[call-overload]
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, zstd.ZstdError, gzip.BadGzipFile) as e:
        raise UserError(f"a layer of {what} is damaged: {e}", hint="build and push the image again") from e


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Bounded:
    """A layer that may not become more than a disk and what else is reasonable beside it."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises UserError."""
        if self._read > _LARGEST_DISK + _LARGEST_PADDING:
            raise UserError("a layer of the image unpacks to more than any disk has", hint="look at how it was built")
        data = self._stream.read(size)
        self._read += len(data)
        return data


def name_of(member: tarfile.TarInfo) -> str:
    """The path of a member inside the image, without a slash before it."""
    return str(PurePosixPath("/", member.name)).lstrip("/")


def _is_wanted(name: str, wanted: str | None) -> bool:
    return name == wanted.strip("/") if wanted else PurePosixPath(name).parts[:1] == (FOLDER,) and name != FOLDER


def is_whiteout(name: str) -> bool:
    """Whether the name says that something of the layers below is removed."""
    return PurePosixPath(name).name.startswith(_WHITEOUT)


def note_removal(name: str, removed: Hidden) -> None:
    """Add to `removed` what a member of this name removes, if anything."""
    path = PurePosixPath(name)
    if path.name == _OPAQUE:
        removed.folders.add(str(path.parent))
    elif path.name.startswith(_WHITEOUT):
        removed.files.add(str(path.parent / path.name.removeprefix(_WHITEOUT)))


def _unpacked(file: BinaryIO) -> _Readable:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(_ZSTD):
        # A larger window is nothing that an image needs, but memory that it asks of the engine.
        return zstd.ZstdFile(file, options={zstd.DecompressionParameter.window_log_max: 27})
    return file


def copy_file(content: IO[bytes], size: int, target: BinaryIO, largest: Callable[[], int], what: str) -> str:
    """Write the content to `target`, holes kept; its sha256 in hex. `largest()` is the room for it. Raises UserError, OSError."""
    if size > _LARGEST_DISK:
        raise UserError(f"{what} says that it has {size >> 30} GiB", hint=f"at most {_LARGEST_DISK >> 30} GiB are taken")
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
        for start in range(0, len(chunk), _BLOCK):
            block = chunk[start : start + _BLOCK]
            if block.count(0) == len(block):
                target.seek(len(block), os.SEEK_CUR)
            else:
                target.write(block)
        if largest() < _CHUNK:
            raise UserError(f"{what} does not fit: {size >> 20} MiB, and the file system of images is full", hint="make room on it")
    target.truncate(target.tell())
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()
