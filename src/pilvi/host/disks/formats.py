"""What a disk image is, read from its first bytes without trusting any of them.

Only for images that come from outside. A disk that a guest could have written is always opened as what it was made as: whatever a
guest puts into its first sector would else name a file of the host as its backing file.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import msgspec

from pilvi.errors import UserError

__all__ = ["SECTOR", "ImageInfo", "read_image"]

SECTOR = 512
_QCOW2 = b"QFI\xfb"
_FOREIGN = ((b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"), (b"conectix", "vpc"), (b"COWD", "vmdk"), (b"# Disk DescriptorFile", "vmdk"))
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\x00", "xz"), (b"(\xb5/\xfd", "zstd"), (b"BZh", "bzip2"))
_VDI_MAGIC, _VDI_OFFSET = b"\x7f\x10\xda\xbe", 0x40
_LARGEST = 1 << 50
# Incompatible features of version 3 that change nothing about trust: dirty refcounts (0), compression type (3), extended L2 entries (4).
_HARMLESS = (1 << 0) | (1 << 3) | (1 << 4)
_CORRUPT, _DATA_FILE = 1 << 1, 1 << 2


class ImageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`format` is how it is to be opened; the size is what a guest sees, in bytes."""

    format: Literal["raw", "qcow2"]
    size_bytes: int


def read_image(path: Path, name: str) -> ImageInfo:
    """What the image in `path` is; `name` is what people call it, for messages. Blocks for one small read.

    Raises UserError for one that machines cannot use or must not: a backing file, an external data file, encryption, damage, another
    format, a compressed file, a size that is none.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    length = path.stat().st_size
    if head.startswith(_QCOW2):
        return _read_qcow2(head, name)
    for magic, what in (*_FOREIGN, *_PACKED):
        if head.startswith(magic):
            raise UserError(f"{name} is a {what} file", hint="convert it with `qemu-img convert -O qcow2`, or unpack it first")
    if head[_VDI_OFFSET : _VDI_OFFSET + 4] == _VDI_MAGIC:
        raise UserError(f"{name} is a vdi file", hint="convert it with `qemu-img convert -O qcow2`")
    if length < SECTOR:
        raise UserError(f"{name} has {length} bytes, which is no disk", hint="look at how it was made")
    # A guest reads whole sectors; what is missing of the last one reads as zeros.
    return ImageInfo(format="raw", size_bytes=-(-length // SECTOR) * SECTOR)


def _read_qcow2(head: bytes, name: str) -> ImageInfo:
    def refuse(why: str, hint: str) -> UserError:
        return UserError(f"{name} is a qcow2 file {why}", hint=hint)

    if len(head) < 72:
        raise refuse("that was cut off", "load it again")
    version, backing, _, cluster_bits, size, crypt, l1_size = struct.unpack(">IQIIQII", head[4:40])
    if version not in (2, 3):
        raise refuse(f"of version {version}", "convert it with `qemu-img convert -O qcow2`")
    if backing:
        raise refuse("that lies over another file", "write all of it into one file with `qemu-img convert -O qcow2`")
    if crypt:
        raise refuse("that is encrypted", "decrypt it with `qemu-img convert`")
    if not 9 <= cluster_bits <= 21 or not SECTOR <= size <= _LARGEST or l1_size > (32 << 20) // 8:
        raise refuse("with a damaged header", "load it again, or look at it with `qemu-img check`")
    if version == 3:
        if len(head) < 104:
            raise refuse("that was cut off", "load it again")
        incompatible = struct.unpack(">Q", head[72:80])[0]
        if incompatible & _DATA_FILE:
            raise refuse("whose data is in another file", "write all of it into one file with `qemu-img convert -O qcow2`")
        if incompatible & _CORRUPT:
            raise refuse("that is marked as damaged", "look at it with `qemu-img check -r all`")
        if incompatible & ~_HARMLESS:
            raise refuse("with features that are not known here", "convert it with `qemu-img convert -O qcow2`")
    return ImageInfo(format="qcow2", size_bytes=-(-size // SECTOR) * SECTOR)
