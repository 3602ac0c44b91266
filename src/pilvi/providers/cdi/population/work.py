"""Puts data into a volume's file. Whatever happens meanwhile, the file is either as it was made, empty, or whole.

The new content is written beside the file, with its final size, put on disk and then renamed over it. `host/disks` does that, and reads
what comes from outside in a cage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from pilvi.errors import Transient, Unusable
from pilvi.host.disks import clone_file, convert_image, preallocate_disk
from pilvi.images import Credentials, ImageStore, Reference
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.providers.cdi.kinds import CLONE_TYPE, FALLBACK_REASON
from pilvi.transfer import Checksum, HttpSource, Meter, fetch, find_compression, find_received, unpack, verify

__all__ = ["Blank", "Copy", "Download", "Pull", "Source", "Upload", "Volume", "fill", "largest_image"]


@dataclass(frozen=True)
class Blank:
    """Nothing."""


@dataclass(frozen=True)
class Download:
    """An image from a web server."""

    http: HttpSource
    checksum: Checksum | None = None


@dataclass(frozen=True)
class Pull:
    """A container disk from a registry, which the cloud's store keeps for others."""

    store: ImageStore
    reference: Reference
    credentials: Credentials | None


@dataclass(frozen=True)
class Copy:
    """The disk of another volume or of a snapshot."""

    disk: Path
    name: str


@dataclass(frozen=True)
class Upload:
    """What a client sends, once it is all in the workspace."""


Source: TypeAlias = Blank | Download | Pull | Copy | Upload


@dataclass(frozen=True)
class Volume:
    """What is filled: its file, which `storage/` has made, and whether it takes its whole space at once."""

    file: Path
    preallocate: bool = False


async def fill(source: Source, volume: Volume, workspace: Path, meter: Meter) -> dict[str, str]:
    """Fill the volume; returns annotations that tell how. What is on the way lies in `workspace`, which a later call goes on with.

    Raises Unusable when this source can never fill this volume, NoSpace, Transient and other errors that may pass.
    """
    found = await on_disk(_look, volume.file)
    if found is None:
        raise Transient(f"the volume's file {volume.file} is not there", retry_after_s=5.0)
    size_bytes = found.st_size
    match source:
        case Blank():
            meter.begin("allocating")
            if volume.preallocate:
                await preallocate_disk(volume.file)
            return {}
        case Copy():
            return await _replace(volume, lambda target: _copy(source, size_bytes, target, meter))
        case Pull():
            meter.begin("pulling")
            disk = await source.store.ensure(source.reference, "Always", source.credentials, progress=partial(_pulled, meter))
            name = f"the disk of {source.reference}"
            return await _replace(volume, lambda target: _convert(disk.path, name, size_bytes, target, meter))
        case Download() | Upload():
            image = await _image(source, workspace, size_bytes, meter)
            return await _replace(volume, lambda target: _convert(image, "the image", size_bytes, target, meter))


async def _convert(image: Path, name: str, size_bytes: int, target: Path, meter: Meter) -> dict[str, str]:
    meter.begin("converting", size_bytes)

    def progress(share: float) -> None:
        meter.done = int(share * size_bytes)

    await convert_image(image, target, size_bytes=size_bytes, name=name, progress=progress)
    return {}


def _pulled(meter: Meter, done: int, total: int) -> None:
    meter.done, meter.total = done, total


def largest_image(size_bytes: int) -> int:
    """An image has tables beside its data; what is much larger than the disk cannot be its image."""
    return size_bytes + size_bytes // 16 + (64 << 20)


async def _image(source: Download | Upload, workspace: Path, size_bytes: int, meter: Meter) -> Path:
    """The image as it is to be read: downloaded, checked, unpacked."""
    if isinstance(source, Upload):
        received = await on_disk(find_received, workspace)
        if received is None:
            raise Transient("the upload is gone, it has to be sent again")
        path = received
    else:
        path = await fetch(source.http, workspace, meter)
        if source.checksum is not None:
            await verify(path, source.checksum, meter)
    compression = await on_disk(find_compression, path)
    if compression is None:
        return path
    image = workspace / "image"
    await unpack(path, image, compression, largest_image(size_bytes), meter)
    return image


async def _copy(source: Copy, size_bytes: int, target: Path, meter: Meter) -> dict[str, str]:
    before = await on_disk(_look, source.disk)
    if before is None:
        raise Transient(f"{source.name} has no file", retry_after_s=5.0)
    if before.st_size > size_bytes:
        raise Unusable(
            f"the disk of the {source.name} is {before.st_size} bytes large and the claim has {size_bytes}",
            hint=f"ask for at least {-(-before.st_size // (1 << 20))}Mi below resources.requests.storage, in a new DataVolume",
        )
    meter.begin("copying", size_bytes)

    def progress(share: float) -> None:
        meter.done = int(share * size_bytes)

    if await clone_file(source.disk, target, size_bytes=size_bytes, progress=progress) == "reflink":
        return {CLONE_TYPE: "csi-clone"}
    after = await on_disk(_look, source.disk)
    if after is None or (after.st_mtime_ns, after.st_ino) != (before.st_mtime_ns, before.st_ino):
        raise Transient(f"{source.name} was written to while it was copied; it is copied again", retry_after_s=5.0)
    return {CLONE_TYPE: "copy", FALLBACK_REASON: "the file system cannot share blocks between files"}


async def _replace(volume: Volume, write: Callable[[Path], Coroutine[Any, Any, dict[str, str]]]) -> dict[str, str]:
    """Let `write` make the new content beside the volume's file, and put it in its place."""
    target = volume.file.with_name(f"{volume.file.name}.filled")
    try:
        told = await write(target)
        if volume.preallocate:
            await preallocate_disk(target)
        await finish_on_disk(_settle, target, volume.file)
    finally:
        target.unlink(missing_ok=True)  # after the end: it has another name
    return told


def _settle(new: Path, file: Path) -> None:
    os.replace(new, file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
