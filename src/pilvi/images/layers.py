"""Finds the one disk file in the layers of an image, without unpacking anything else.

A layer is a tar archive, mostly compressed. Names in it are only compared: nothing is ever written under a name that an image chose.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from pilvi.errors import UserError

__all__ = ["FOLDER", "Hidden", "take_disk"]

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
    try:
        with layer.open("rb") as file, _unpacked(file, what) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            found: str | None = None
            removed = Hidden()
            for member in archive:
                name = str(PurePosixPath("/", member.name)).lstrip("/")
                _note_removal(name, removed)
                if hidden.hides(name) or not _is_wanted(name, wanted) or _is_whiteout(name):
                    continue
                if not member.isreg():
                    if wanted is None and member.isdir():
                        continue
                    raise UserError(f"/{name} in {what} is no regular file", hint="put the disk itself there")
                if found is not None:
                    raise UserError(f"{what} has more than one file below /{FOLDER}", hint="name one in containerDisk.path")
                content = archive.extractfile(member)
                if content is not None:
                    found = _copy(content, member.size, target, largest, what)
            hidden.files |= removed.files
            hidden.folders |= removed.folders
            return found
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise UserError(f"a layer of {what} is damaged: {e}", hint="build and push the image again") from e


class _Bounded(gzip.GzipFile):
    """A packed layer that may not become more than a disk and what else is reasonable beside it."""

    def read(self, size: int | None = -1) -> bytes:
        """As GzipFile's. Raises UserError."""
        if self.tell() > _LARGEST_DISK + _LARGEST_PADDING:
            raise UserError("a layer of the image unpacks to more than any disk has", hint="look at how it was built")
        return super().read(size)


def _is_wanted(name: str, wanted: str | None) -> bool:
    return name == wanted.strip("/") if wanted else PurePosixPath(name).parts[:1] == (FOLDER,) and name != FOLDER


def _is_whiteout(name: str) -> bool:
    return PurePosixPath(name).name.startswith(_WHITEOUT)


def _note_removal(name: str, removed: Hidden) -> None:
    path = PurePosixPath(name)
    if path.name == _OPAQUE:
        removed.folders.add(str(path.parent))
    elif path.name.startswith(_WHITEOUT):
        removed.files.add(str(path.parent / path.name.removeprefix(_WHITEOUT)))


def _unpacked(file: BinaryIO, what: str) -> Any:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return _Bounded(fileobj=file)
    if magic.startswith(_ZSTD):
        raise UserError(f"a layer of {what} is compressed with zstd, which is not implemented yet", hint="push it with gzip")
    return contextlib.nullcontext(file)


def _copy(content: IO[bytes], size: int, target: BinaryIO, largest: Callable[[], int], what: str) -> str:
    if size > _LARGEST_DISK:
        raise UserError(f"the disk of {what} says that it has {size >> 30} GiB", hint=f"at most {_LARGEST_DISK >> 30} GiB are taken")
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
            raise UserError(
                f"the disk of {what} does not fit: {size >> 20} MiB, and the file system of images is full", hint="make room on it"
            )
    target.truncate(target.tell())
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()
