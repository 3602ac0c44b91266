"""Makes a container disk of a disk file: an image with one layer that holds it below /disk, by KubeVirt's convention.

The layer is never written anywhere: it is a header, the file as it lies there, and zeros.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from pilvi.errors import DriverError, UserError
from pilvi.host.disks import read_image
from pilvi.images.bundle import MANIFEST_TYPE, Bundle, Content, Piece, content_size, hash_content, make_manifest
from pilvi.images.layers import FOLDER
from pilvi.lib.disk import on_disk
from pilvi.lib.run import run

__all__ = ["disk_name", "make_layer", "open_disk", "wrap_files"]

_CONVERT_TIMEOUT_S = 3600.0
_QEMU = 107  # the user that KubeVirt's QEMU is


@asynccontextmanager
async def open_disk(path: Path, scratch: Path) -> AsyncIterator[Path]:
    """The disk in `path` (absolute) as a qcow2 file, for the length of a block: itself, or one made of it below the folder `scratch`.

    A raw disk has holes, which a registry would keep as zeros. Raises Unusable for what is no disk or needs another file, UserError without
    qemu-img, DriverError when the disk is full.
    """
    info = await on_disk(read_image, path)
    if info.format == "qcow2":
        yield path
        return
    with TemporaryDirectory(prefix=".pilvi-image-", dir=scratch) as folder:
        made = Path(folder) / "disk.qcow2"
        try:
            await run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, made], timeout_s=_CONVERT_TIMEOUT_S)
        except DriverError as e:
            if e.code == 127:
                raise UserError("a raw disk is made qcow2 by qemu-img, which is not here", hint="apt install qemu-utils") from e
            raise
        yield made


async def wrap_files(layers: Sequence[Mapping[str, Path]], annotations: dict[str, str]) -> Bundle:
    """An image with these layers, each given by the files' names in it. Reads all files once. Raises OSError."""
    contents = [make_layer(files) for files in layers]
    digests = [await on_disk(hash_content, content) for content in contents]
    config = msgspec.json.encode(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": digests}},
    )
    sizes = [content_size(content) for content in contents]
    manifest, digest = make_manifest(config, list(zip(digests, sizes, strict=True)), annotations)
    return Bundle(MANIFEST_TYPE, manifest, {**dict(zip(digests, contents, strict=True)), digest: (config,)})


def make_layer(files: Mapping[str, Path]) -> Content:
    """The tar archive of these files; the same bytes for the same files, whenever and by whomever it is made. Blocks, short."""
    parts: list[bytes | Piece] = []
    for folder in sorted({name.rpartition("/")[0] for name in files if "/" in name}):
        parts.append(_header(folder, 0, tarfile.DIRTYPE, 0o755))
    for name, path in sorted(files.items()):
        size = path.stat().st_size
        parts += [_header(name, size, tarfile.REGTYPE, 0o444), Piece(path, 0, size), bytes(-size % tarfile.BLOCKSIZE)]
    parts.append(bytes(2 * tarfile.BLOCKSIZE))
    return tuple(part for part in parts if not isinstance(part, bytes) or part)


def disk_name(path: Path) -> str:
    """Where a disk lies in its image."""
    return f"{FOLDER}/{path.stem}.qcow2"


def _header(name: str, size: int, kind: bytes, mode: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode, info.uid, info.gid = size, kind, mode, _QEMU, _QEMU
    return info.tobuf(tarfile.PAX_FORMAT)
