"""What kind of disk image a file is, and its way into a raw file.

An image comes from anybody. So its kind is told by its first bytes and then forced, and whatever would make qemu-img open a second file
(a backing file, an external data file, a descriptor of extents) is refused here, from the header alone, before qemu-img sees it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilvi.errors import DriverError, NoSpace, Unusable
from pilvi.lib.disk import on_disk
from pilvi.lib.run import run
from pilvi.transfer.meter import Meter

__all__ = ["ImageInfo", "convert", "read_image"]

LOOK_S = 30.0
CHECK_S = 600.0
CONVERT_S = 12 * 3600.0
MEMORY_BYTES = 2 << 30
SECTOR = 512
LARGEST_BYTES = 1 << 50

_LIMITED = ("prlimit", f"--as={MEMORY_BYTES}", "qemu-img")

_DIRTY, _CORRUPT, _DATA_FILE, _ZSTD, _EXTENDED_L2 = (1 << bit for bit in range(5))
AS_RAW = "give the disk as a qcow2 without backing file or as raw; qemu-img convert makes one"


@dataclass(frozen=True)
class ImageInfo:
    """The format, by qemu's name for it, and how large the disk is that the guest sees."""

    format: str
    virtual_size_bytes: int


async def read_image(path: Path) -> ImageInfo:
    """What the file holds. Raises Unusable for what is refused; a file of no known kind is a raw disk."""
    head, size = await on_disk(_head, path)
    if head.startswith(b"QFI\xfb"):
        info = ImageInfo("qcow2", _qcow2_size(head))
        await _check_qcow2(path)
        return info
    kind = _kind(head)
    if kind is None:
        if not size:
            raise Unusable("the image is empty", hint="look at what the source gives")
        return ImageInfo("raw", -(-size // SECTOR) * SECTOR)
    try:
        told = msgspec.json.decode((await run([*_LIMITED, "info", "--output=json", "-f", kind, path], timeout_s=LOOK_S)).stdout)
    except (DriverError, msgspec.DecodeError) as e:
        raise Unusable(f"the {kind} image cannot be read", hint=AS_RAW) from e
    if told.get("backing-filename") or told.get("encrypted"):
        raise Unusable(f"the {kind} image has a backing file or is encrypted", hint=AS_RAW)
    return ImageInfo(kind, int(told["virtual-size"]))


async def _check_qcow2(path: Path) -> None:
    """A file that lost its end reads as zeros there, and qemu-img converts it without a word; the check sees it."""
    done = await run([*_LIMITED, "check", "-f", "qcow2", path], timeout_s=CHECK_S, check=False)
    if done.code not in (0, 3):  # 3: room that nothing uses
        raise Unusable("the qcow2 image is cut off or damaged", hint="check it with qemu-img check, and fetch or publish it again")


def _head(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(4096), os.fstat(file.fileno()).st_size


def _kind(head: bytes) -> str | None:
    """The format of an image that is neither qcow2 nor raw."""
    if head.startswith(b"# Disk DescriptorFile") or (head.startswith(b"KDMV") and head[12:20] == bytes(8)):
        raise Unusable("the vmdk image is only a description of other files", hint=AS_RAW)
    if head.startswith(b"KDMV"):
        return "vmdk"
    if head[64:68] == b"\x7f\x10\xda\xbe":
        return "vdi"
    if head.startswith(b"vhdxfile"):
        return "vhdx"
    return "vpc" if head.startswith(b"conectix") else None


def _qcow2_size(head: bytes) -> int:
    """The virtual size that a qcow2 header states; raises Unusable for every image that is not plain."""
    if len(head) < 104:
        raise Unusable("the qcow2 image is cut off", hint="fetch or publish it again")
    version, backing, _, _, size, encryption = struct.unpack(">IQIIQI", head[4:36])
    features = struct.unpack(">Q", head[72:80])[0] if version == 3 else 0
    if version not in (2, 3):
        raise Unusable(f"the image is qcow2 of version {version}, which nobody knows", hint=AS_RAW)
    if backing or features & _DATA_FILE:
        raise Unusable("the qcow2 image needs another file, a backing or data file, which is never opened", hint=AS_RAW)
    if encryption:
        raise Unusable("the qcow2 image is encrypted", hint=AS_RAW)
    if features & ~(_DIRTY | _ZSTD | _EXTENDED_L2):
        raise Unusable(f"the qcow2 image is marked as damaged, or has features that are not known ({features:#x})", hint=AS_RAW)
    if not 0 < size <= LARGEST_BYTES:
        raise Unusable(f"the qcow2 image claims to be {size} bytes large", hint=AS_RAW)
    return int(size)


async def convert(source: Path, format: str, target: Path, limit_bytes: int, meter: Meter) -> None:
    """Write the disk that `source` holds as a raw, sparse file, which must not be larger than `limit_bytes`.

    Raises Unusable when the image is damaged, and NoSpace. After failure or cancellation there is no `target`.
    """
    limits = ["prlimit", f"--as={MEMORY_BYTES}", f"--fsize={limit_bytes}"]
    meter.begin("converting", await on_disk(_allocated, source))
    watch = asyncio.create_task(_watch(target, meter))
    try:
        await run([*limits, "qemu-img", "convert", "-f", format, "-O", "raw", source, target], timeout_s=CONVERT_S)
    except DriverError as e:
        await on_disk(target.unlink, missing_ok=True)
        if os.strerror(errno.ENOSPC) in e.stderr:
            raise NoSpace(
                f"the file system of {target.parent} is full", hint="remove disks or images that nobody needs; the import goes on by itself"
            ) from e
        raise Unusable(f"the {format} image cannot be converted", hint="check it with qemu-img check, and publish it again") from e
    except BaseException:
        await on_disk(target.unlink, missing_ok=True)
        raise
    finally:
        watch.cancel()


async def _watch(target: Path, meter: Meter) -> None:
    """Tell how much is written. Never more than all: a compressed image grows."""
    while True:
        await asyncio.sleep(0.5)
        with suppress(FileNotFoundError):
            meter.done = await on_disk(_allocated, target)


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * SECTOR
