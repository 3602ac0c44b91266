"""Images of all known formats, and their way into a raw file.

An image comes from anybody. Its format is told by its first bytes and then forced; whatever would make qemu-img open a second file is
refused before qemu-img sees it, and qemu-img runs in a cage (`confine`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pilvi.errors import DriverError, NoSpace, Unusable
from pilvi.host.disks.confine import confined, is_full
from pilvi.host.disks.files import allocated_bytes, clone_file, need_room, unfinished
from pilvi.host.disks.formats import AGAIN, AS_QCOW2, LARGEST_BYTES, SECTOR, Format, SourceImage, find_format, read_image
from pilvi.lib.disk import on_disk
from pilvi.lib.run import run

__all__ = ["convert_image", "inspect_image"]

LOOK_S = 600.0
CONVERT_S = 12 * 3600.0

_LENGTH = re.compile(rb'"length": (\d+)')
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")


async def inspect_image(path: Path, name: str | None = None) -> SourceImage:
    """What the image in `path` is, in any format that `convert_image` takes. `name` is what people call it.

    Raises Unusable like `read_image`, and for an image whose tables are damaged or that was cut off; OSError.
    """
    what = name or f"the image {path.name}"
    head, tail = await on_disk(_ends, path)
    format = find_format(head, tail, what)
    if format == "raw":
        return await on_disk(read_image, path, what)
    if format == "qcow2":
        info = await on_disk(read_image, path, what)
        # What lost its end reads as zeros there, without a word; the check sees it. 3 is space that nothing uses.
        done = await run(confined(["qemu-img", "check", "-f", "qcow2", path], read=[path]), timeout_s=LOOK_S, check=False)
        if done.code not in (0, 3):
            raise Unusable(f"{what} is cut off or damaged", hint=f"look at it with `qemu-img check`; {AGAIN}")
        return info
    told = await _ask(["info", "--output=json", "-f", format, path], path, what)
    size = told.get("virtual-size")
    if told.get("backing-filename") or told.get("encrypted"):
        raise Unusable(f"{what} is a {format} file that needs another file or is encrypted", hint=AS_QCOW2)
    if not isinstance(size, int) or not SECTOR <= size <= LARGEST_BYTES:
        raise Unusable(f"{what} is a {format} file that claims to hold {size} bytes", hint=AS_QCOW2)
    return SourceImage(format=format, virtual_size_bytes=size)


async def convert_image(
    source: Path,
    target: Path,
    *,
    size_bytes: int,
    name: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> SourceImage:
    """Make `target` a raw disk of `size_bytes`, for root only, that begins with what the image in `source` holds; returns what that was.

    Nothing is written when the image is no image, is larger than `size_bytes` (a multiple of 512), or has more data than the file system
    has room. `progress` gets 0.0 to 1.0. One disk that is there is replaced at the end. Raises Unusable, NoSpace, OSError. After failure
    or cancellation there is nothing new, and nothing is written any more.
    """
    what = name or f"the image {source.name}"
    info = await inspect_image(source, what)
    if info.virtual_size_bytes > size_bytes:
        raise Unusable(
            f"{what} holds a disk of {info.virtual_size_bytes} bytes, and there are {size_bytes} for it",
            hint=f"ask for at least {-(-info.virtual_size_bytes // (1 << 20))}Mi",
        )
    if info.format == "raw":
        await clone_file(source, target, size_bytes=size_bytes, progress=progress)
        return info
    needed = await _data_bytes(source, info.format, what)
    await on_disk(need_room, target.parent, needed)
    async with unfinished(target) as (new, fd):
        # The size that the image has, as qemu-img wants it; what is beyond is added afterwards.
        os.truncate(fd, info.virtual_size_bytes)
        convert: list[str | Path] = ["qemu-img", "convert", "-p", "-n", "--target-is-zero", "-f", info.format, "-O", "raw", source, new]
        command = confined(convert, read=[source], write=[new], largest_bytes=info.virtual_size_bytes)
        try:
            await run(command, timeout_s=CONVERT_S, on_stdout=_teller(progress))
        except DriverError as e:
            if is_full(e):
                missing = max(0, needed - await on_disk(allocated_bytes, new))
                raise NoSpace(
                    f"the file system of {target.parent} is full: {missing} bytes of {what} are missing",
                    hint="remove disks or images that nobody needs, or give it more space",
                ) from e
            raise Unusable(f"{what} cannot be converted from {info.format}", hint=f"look at it with `qemu-img check`; {AGAIN}") from e
        os.truncate(fd, size_bytes)
    return info


async def _data_bytes(path: Path, format: Format, what: str) -> int:
    """How many bytes of the disk are data and not holes. The list of a large image is long: it is added up as it comes."""
    total, rest = 0, b""

    def add(piece: bytes) -> None:
        nonlocal total, rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if b'"data": true' in line and (length := _LENGTH.search(line)):
                total += int(length[1])

    command = confined(["qemu-img", "map", "--output=json", "-f", format, path], read=[path])
    try:
        await run(command, timeout_s=LOOK_S, on_stdout=add)
    except DriverError as e:
        raise Unusable(f"{what} cannot be read", hint=AS_QCOW2) from e
    add(b"\n")
    return total


async def _ask(words: list[str | Path], path: Path, what: str) -> dict[str, Any]:
    try:
        done = await run(confined(["qemu-img", *words], read=[path]), timeout_s=LOOK_S)
        told = msgspec.json.decode(done.stdout)
    except (DriverError, msgspec.DecodeError) as e:
        raise Unusable(f"{what} cannot be read", hint=AS_QCOW2) from e
    if not isinstance(told, dict):
        raise Unusable(f"{what} cannot be read", hint=AS_QCOW2)
    return told


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        head = file.read(SECTOR)
        file.seek(max(0, os.fstat(file.fileno()).st_size - SECTOR))
        return head, file.read(SECTOR)


def _teller(progress: Callable[[float], None] | None) -> Callable[[bytes], None]:
    """Reads qemu-img's own account; a line may come in two pieces."""
    rest = bytearray()

    def take(piece: bytes) -> None:
        rest.extend(piece)
        found = list(_PERCENT.finditer(rest))
        if found:
            if progress is not None:
                progress(min(1.0, float(found[-1][1]) / 100))
            del rest[: found[-1].end()]
        del rest[:-64]

    return take
