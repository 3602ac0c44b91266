"""What a disk image is, read from its first bytes without trusting any of them.

Only for images that come from outside, and only once. A disk that a guest could have written is always opened as what it was made as:
whatever a guest puts into its first sector would else name a file of the host as its backing file.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pilvi.errors import Unusable

__all__ = ["SECTOR", "Format", "ImageInfo", "SourceImage", "find_compression", "find_format", "read_image"]

Format: TypeAlias = Literal["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"]
"""QEMU's names. All but the first two have to be made raw before a machine can use them (`convert_image`)."""

SECTOR = 512
LARGEST_BYTES = 1 << 50

AS_QCOW2 = "give the disk as qcow2 or raw in one file; `qemu-img convert -O qcow2` makes one"
AGAIN = "fetch it again, or publish it again"

_QCOW2 = b"QFI\xfb"
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\x00", "xz"), (b"(\xb5/\xfd", "zstd"), (b"BZh", "bzip2"))
_UNREAD = (
    (b"QED\0", "a QED file"),
    (b"WithoutFreeSpace", "a Parallels file"),
    (b"WithouFreSpacExt", "a Parallels file"),
    (b"COWD", "a vmdk file of an old kind"),
    (b"# Disk DescriptorFile", "a vmdk description of other files"),
)
_VDI, _VDI_AT = b"\x7f\x10\xda\xbe", 64
_ISO, _ISO_AT = b"CD001", 32769
_VHD = b"conectix"
_HEAD_BYTES = 36 << 10

# Bits of a qcow2's incompatible features: refcounts may be stale, damaged, data in another file, compression type, subclusters.
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_RAW_DATA_FILE = 1 << 1  # of the features that may be cleared
_CRYPTO_HEADER = 0x0537BE77
_MAX_L1_BYTES = 32 << 20
_MAX_REFCOUNT_BYTES = 8 << 20
_MAX_SNAPSHOTS = 65536


class SourceImage(msgspec.Struct, frozen=True, kw_only=True):
    """`format` is how it is to be opened; the size is what a guest sees, in bytes, a multiple of 512. `is_iso`: a disc (always raw)."""

    format: Format
    virtual_size_bytes: int
    is_iso: bool = False


class ImageInfo(SourceImage, frozen=True, kw_only=True):
    """One that machines can use as it is."""

    format: Literal["raw", "qcow2"]


def read_image(path: Path, name: str | None = None) -> ImageInfo:
    """What the image in `path` is, if machines can use it as it is: raw or qcow2. Blocks for a small read.

    `name` is what people call it, for messages. Raises Unusable for any other, compressed or not, and for a qcow2 with a backing file, an
    external data file, encryption, features that are not known, damage in its header or a size that cannot be; OSError.
    A file of no known kind is a raw disk. Its size is rounded up to whole sectors, what is missing of the last reads as zeros.
    """
    what = name or f"the image {path.name}"
    head, tail, length = _read(path, what)
    if packed := find_compression(head):
        raise Unusable(f"{what} is compressed with {packed}", hint="unpack it first")
    format = find_format(head, tail, what)
    if format == "qcow2":
        return ImageInfo(format="qcow2", virtual_size_bytes=_read_qcow2(head, length, what))
    if format != "raw":
        raise Unusable(f"{what} is a {format} file, which machines do not use as it is", hint=AS_QCOW2)
    if length < SECTOR or length > LARGEST_BYTES:
        raise Unusable(f"{what} has {length} bytes, which is no disk", hint="look at what the source gives")
    is_iso = head[_ISO_AT : _ISO_AT + len(_ISO)] == _ISO
    return ImageInfo(format="raw", virtual_size_bytes=-(-length // SECTOR) * SECTOR, is_iso=is_iso)


def find_compression(head: bytes) -> str | None:
    """What a file that begins with `head` was compressed with: gzip, xz, zstd, bzip2; None when it is not."""
    return next((name for magic, name in _COMPRESSIONS if head.startswith(magic)), None)


def find_format(head: bytes, tail: bytes, what: str) -> Format:
    """The format of an image with this first 512 bytes at least and this last sector.

    Raises Unusable for formats that nothing here reads, and for those that only describe other files: those are never opened.
    """
    for magic, kind in _UNREAD:
        if head.startswith(magic):
            raise Unusable(f"{what} is {kind}, which is not read here", hint=AS_QCOW2)
    if head.startswith(_QCOW2):
        return "qcow2"
    if head.startswith(b"KDMV"):
        if len(head) >= 20 and head[12:20] == bytes(8):  # no sectors of its own
            raise Unusable(f"{what} is a vmdk description of other files, which is not read here", hint=AS_QCOW2)
        return "vmdk"
    if head[_VDI_AT : _VDI_AT + len(_VDI)] == _VDI:
        return "vdi"
    if head.startswith(b"vhdxfile"):
        return "vhdx"
    return "vpc" if head.startswith(_VHD) or _is_fixed_vhd(tail) else "raw"


def _is_fixed_vhd(tail: bytes) -> bool:
    """A disk of fixed size is the plain disk with a footer, which has a checksum: few raw disks end like this by accident."""
    if not tail.startswith(_VHD) or len(tail) != SECTOR or tail[60:64] != b"\0\0\0\2":
        return False
    return int.from_bytes(tail[64:68], "big") == ~(sum(tail) - sum(tail[64:68])) & 0xFFFFFFFF


def _read(path: Path, what: str) -> tuple[bytes, bytes, int]:
    """The beginning, the last sector, the length."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable(f"{what} is no regular file", hint="name a file")
        length = status.st_size
        return os.pread(fd, _HEAD_BYTES, 0), os.pread(fd, SECTOR, max(0, length - SECTOR)), length
    finally:
        os.close(fd)


def _read_qcow2(head: bytes, length: int, what: str) -> int:
    """The virtual size that the header states. Field by field as QEMU's docs/interop/qcow2.txt has them; stricter than QEMU."""

    def refuse(why: str, hint: str) -> Unusable:
        return Unusable(f"{what} is a qcow2 file {why}", hint=hint)

    if len(head) < 72:
        raise refuse("that was cut off", AGAIN)
    version, backing, _, cluster_bits, size, crypt, l1_size, l1_at, refcounts_at, refcount_clusters, snapshots, snapshots_at = (
        struct.unpack(">IQIIQIIQQIIQ", head[4:72])
    )
    if version not in (2, 3):
        raise refuse(f"of version {version}", AS_QCOW2)
    features, autoclear, refcount_order, header_length = 0, 0, 4, 72
    if version == 3:
        if len(head) < 112:
            raise refuse("that was cut off", AGAIN)
        features, _, autoclear, refcount_order, header_length = struct.unpack(">QQQII", head[72:104])
    # What is safe to say comes first: that a damaged header also names another file must not be left out.
    if backing or features & _DATA_FILE or autoclear & _RAW_DATA_FILE:
        raise refuse("that needs another file, a backing or a data file, which is never opened", AS_QCOW2)
    if crypt:
        raise refuse("that is encrypted", AS_QCOW2)
    if features & _CORRUPT:
        raise refuse("that is marked as damaged", "look at it with `qemu-img check -r all`")
    if features & ~(_DIRTY | _COMPRESSION | _EXTENDED_L2):
        raise refuse(f"with features that are not known here ({features:#x})", AS_QCOW2)
    if bool(features & _COMPRESSION) != bool(version == 3 and header_length > 104 and head[104]):
        raise refuse("whose compression is said in two ways", AGAIN)
    if features & _COMPRESSION and head[104] != 1:
        raise refuse(f"with compression {head[104]}, which is not known here", AS_QCOW2)

    if not 9 <= cluster_bits <= 21 or (features & _EXTENDED_L2 and cluster_bits < 14):
        raise refuse("with a damaged header (size of clusters)", AGAIN)
    cluster = 1 << cluster_bits
    if not SECTOR <= size <= LARGEST_BYTES:
        raise refuse(f"that claims to hold {size} bytes", "write a disk of at least 512 bytes and at most 1 PiB")
    if version == 3 and (not 104 <= header_length <= cluster or header_length % 8 or refcount_order > 6):
        raise refuse("with a damaged header (version 3)", AGAIN)
    mapped = cluster * (cluster // (16 if features & _EXTENDED_L2 else 8))  # by one entry of the first table
    if not -(-size // mapped) <= l1_size <= _MAX_L1_BYTES // 8 or snapshots > _MAX_SNAPSHOTS:
        raise refuse("with a damaged header (tables)", AGAIN)
    if not 1 <= refcount_clusters <= max(1, _MAX_REFCOUNT_BYTES // cluster):
        raise refuse("with a damaged header (refcounts)", AGAIN)
    if any(at % cluster or at < cluster for at in (l1_at, refcounts_at, snapshots_at or cluster)) or (snapshots and not snapshots_at):
        raise refuse("with a damaged header (tables out of place)", AGAIN)
    if l1_at + l1_size * 8 > length or refcounts_at >= length or snapshots_at >= length:
        raise refuse("that was cut off", AGAIN)
    for kind, end in _extensions(head, header_length):
        if kind == _CRYPTO_HEADER:
            raise refuse("that is encrypted", AS_QCOW2)
        if end > min(cluster, len(head)):
            raise refuse("with a damaged header (extensions)", AGAIN)
    return int(size // SECTOR * SECTOR)


def _extensions(head: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Kind and end of each header extension."""
    while at + 8 <= len(head):
        kind, length = struct.unpack(">II", head[at : at + 8])
        if kind == 0:
            return
        at += 8 + length
        yield kind, at
        at = -(-at // 8) * 8
