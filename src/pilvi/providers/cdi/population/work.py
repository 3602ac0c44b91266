"""Puts data into a volume's file. Whatever happens meanwhile, the file is either as it was made, empty, or whole.

The new content is written beside the file, with its final size, put on disk and then renamed over it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pilvi.errors import DriverError, NoSpace, Transient, Unusable, UserError
from pilvi.images import Credentials, ImageStore, Reference
from pilvi.lib.disk import finish_on_disk, on_disk
from pilvi.lib.run import run
from pilvi.providers.cdi.kinds import CLONE_TYPE, FALLBACK_REASON
from pilvi.transfer import (
    Checksum,
    HttpSource,
    ImageInfo,
    Meter,
    convert,
    fetch,
    find_compression,
    find_received,
    read_image,
    unpack,
    verify,
)

__all__ = ["Blank", "Copy", "Download", "Pull", "Source", "Upload", "Volume", "fill", "largest_image"]

COPY_S = 12 * 3600.0
ROOM = "remove disks or images that nobody needs; the import goes on by itself"


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
    size_bytes = await on_disk(_size, volume.file)
    if size_bytes is None:
        raise Transient(f"the volume's file {volume.file} is not there", retry_after_s=5.0)
    match source:
        case Blank():
            meter.begin("allocating")
            if volume.preallocate:
                await _allocate(volume.file, size_bytes)
            return {}
        case Copy():
            return await _replace(volume, size_bytes, lambda target: _copy(source, size_bytes, target, meter))
        case Pull():
            meter.begin("pulling")
            disk = await source.store.ensure(source.reference, "Always", source.credentials, progress=partial(_pulled, meter))
            return await _convert(disk.path, ImageInfo(disk.format, disk.size_bytes), volume, size_bytes, meter)
        case Download() | Upload():
            image = await _image(source, workspace, size_bytes, meter)
            return await _convert(image, await read_image(image), volume, size_bytes, meter)


async def _convert(image: Path, info: ImageInfo, volume: Volume, size_bytes: int, meter: Meter) -> dict[str, str]:
    if info.virtual_size_bytes > size_bytes:
        raise _too_large("image", info.virtual_size_bytes, size_bytes)

    async def write(target: Path) -> dict[str, str]:
        await convert(image, info.format, target, size_bytes, meter)
        return {}

    return await _replace(volume, size_bytes, write)


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
        raise _too_large(source.name, before.st_size, size_bytes)
    meter.begin("copying")
    told = {CLONE_TYPE: "csi-clone"}
    try:
        await run(["cp", "--reflink=always", source.disk, target], timeout_s=COPY_S)
    except DriverError:
        told = {CLONE_TYPE: "copy", FALLBACK_REASON: "the file system cannot share blocks between files"}
        try:
            await run(["cp", "--reflink=never", "--sparse=always", source.disk, target], timeout_s=COPY_S)
        except DriverError as e:
            if os.strerror(errno.ENOSPC) in e.stderr:
                raise _no_space(target.parent) from e
            raise
    after = await on_disk(_look, source.disk)
    if after is None or (after.st_mtime_ns, after.st_ino) != (before.st_mtime_ns, before.st_ino):
        raise Transient(f"{source.name} was written to while it was copied; it is copied again", retry_after_s=5.0)
    return told


async def _replace(volume: Volume, size_bytes: int, write: Callable[[Path], Awaitable[dict[str, str]]]) -> dict[str, str]:
    """Let `write` make the new content beside the volume's file, and put it in its place."""
    target = volume.file.with_name("disk.img.new")
    try:
        await on_disk(target.unlink, missing_ok=True)
        told = await write(target)
        if volume.preallocate:
            await _allocate(target, size_bytes)
        await finish_on_disk(_settle, target, volume.file, size_bytes)
    except BaseException:
        with suppress(OSError):
            await on_disk(target.unlink, missing_ok=True)
        raise
    return told


async def _allocate(path: Path, size_bytes: int) -> None:
    try:
        await finish_on_disk(_fallocate, path, size_bytes)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path.parent) from e
        raise UserError(f"the file system of {path.parent} cannot allocate space ahead", hint="leave preallocation out") from e


def _fallocate(path: Path, size_bytes: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, size_bytes)
        os.fsync(fd)
    finally:
        os.close(fd)


def _settle(new: Path, file: Path, size_bytes: int) -> None:
    fd = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.truncate(fd, size_bytes)
        os.fchmod(fd, 0o600)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _size(path: Path) -> int | None:
    found = _look(path)
    return found.st_size if found is not None else None


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _too_large(what: str, has_bytes: int, size_bytes: int) -> Unusable:
    return Unusable(
        f"the disk of the {what} is {has_bytes} bytes large and the claim has {size_bytes}",
        hint=f"ask for at least {-(-has_bytes // (1 << 20))}Mi below resources.requests.storage, in a new DataVolume",
    )


def _no_space(folder: Path) -> NoSpace:
    return NoSpace(f"the file system of {folder} is full", hint=ROOM)
