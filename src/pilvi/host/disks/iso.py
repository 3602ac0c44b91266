"""Folders of files as small read-only disks: ISO 9660 with Joliet (Windows) and Rock Ridge (Linux).

For what cloud-init reads, config maps, secrets, answers for sysprep. Equal files give equal bytes, so that a disk that is made again for a
running or restarted machine is the same disk: all times in it are one fixed moment.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pilvi.errors import UserError
from pilvi.lib.files import write_atomic

__all__ = ["folder_disk", "write_disk"]

_LONGEST_LABEL = 16  # of Joliet
_LONGEST_JOLIET_NAME = 64
_LONGEST_NAME_BYTES = 255  # that Linux shows
_LARGEST_BYTES = 64 << 20
_BLOCK = 2048
_PADDING = 150 * _BLOCK  # as other writers of discs do: programs that look for a label read beyond the end of the smallest (BusyBox)
_NO_DATE = b"0" * 16 + b"\0"
_MOMENT = bytes((80, 1, 1, 0, 0, 0, 0))  # 1980-01-01 00:00:00 UTC


def write_disk(path: Path, label: str, files: Mapping[str, bytes]) -> None:
    """Write the disk with these files (paths with `/`) to `path`, for root only. Blocks. Raises UserError, OSError."""
    write_atomic(path, folder_disk(label, files), mode=0o600)


def folder_disk(label: str, files: Mapping[str, bytes]) -> bytes:
    """The disk itself. Every user of the guest can read the files there.

    Names may have 255 bytes; those of more than 64 characters are seen by Linux only. Raises UserError for a label or a file that does not
    fit.
    """
    import pycdlib  # noqa: PLC0415 (only machines with such disks pay for it)
    from pycdlib.pycdlibexception import PyCdlibException  # noqa: PLC0415

    if not 0 < len(label) <= _LONGEST_LABEL or not label.isascii() or not label.isprintable():
        raise UserError(f"{label!r} cannot be the label of a disk", hint=f"write 1 to {_LONGEST_LABEL} plain characters")
    size = sum(map(len, files.values()))
    if size > _LARGEST_BYTES:
        raise UserError(f"{size} bytes are too many for a disk of files", hint=f"keep it below {_LARGEST_BYTES >> 20} MiB")
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident=label, joliet=3, rock_ridge="1.09", interchange_level=3)
    known: dict[str, str] = {"": ""}  # folder -> its name in plain ISO 9660
    image = io.BytesIO()
    try:
        for number, path in enumerate(sorted(files)):
            *folders, name = path.split("/")
            if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > _LONGEST_NAME_BYTES for part in (*folders, name)):
                raise UserError(f"{path!r} cannot be a file of a disk", hint="write a relative path of parts of 1 to 255 bytes")
            parent = _make_folders(iso, folders, known)
            joliet = f"{parent}/{name}" if len(name) <= _LONGEST_JOLIET_NAME else None
            data = files[path]
            try:
                plain = f"{known[parent]}/F{number:07}.;1"
                iso.add_fp(io.BytesIO(data), len(data), plain, rr_name=name, joliet_path=joliet, file_mode=0o100444)
            except PyCdlibException as e:
                raise UserError(
                    f"the file {path!r} does not fit on a disk", hint="give it a shorter name, and not more than 6 folders"
                ) from e
        iso.write_fp(image)
    finally:
        iso.close()
    content = bytearray(image.getbuffer())
    _still(content)
    return bytes(content) + bytes(_PADDING)


def _make_folders(iso: Any, folders: list[str], known: dict[str, str]) -> str:
    """The path of the innermost one, with all above it made."""
    if len(folders) > 6 or any(len(folder) > _LONGEST_JOLIET_NAME for folder in folders):
        raise UserError(f"the folder {'/'.join(folders)!r} does not fit on a disk", hint="at most 6 folders, of 64 characters each")
    path = ""
    for folder in folders:
        parent, path = path, f"{path}/{folder}"
        if path not in known:
            known[path] = f"{known[parent]}/D{len(known):07}"
            iso.add_directory(known[path], rr_name=folder, joliet_path=path, file_mode=0o040555)
    return path


def _still(image: bytearray) -> None:
    """Set every time in the image: pycdlib takes the clock's, in the zone of the host. Offsets as in ECMA-119 and RRIP 1.09."""
    for at in range(16 * _BLOCK, len(image), _BLOCK):
        kind = image[at]
        if kind == 255:
            return
        if kind in (1, 2):  # primary and Joliet
            image[at + 813 : at + 881] = _NO_DATE * 4
            image[at + 174 : at + 181] = _MOMENT
            for record in _records(image, at + 156):
                image[record + 18 : record + 25] = _MOMENT
                _still_rock_ridge(image, record)


def _records(image: bytearray, root: int) -> Iterator[int]:
    """Where the records of all folders begin, from the record of the root on."""
    folders = [root]
    while folders:
        block, length = _number(image, folders[-1] + 2), _number(image, folders.pop() + 10)
        at, end = block * _BLOCK, block * _BLOCK + length
        while at < end:
            if not image[at]:  # records do not go over the border of a block
                at = (at // _BLOCK + 1) * _BLOCK
                continue
            yield at
            name_length = image[at + 32]
            is_self_or_parent = name_length == 1 and image[at + 33] in (0, 1)
            if image[at + 25] & 2 and not is_self_or_parent:
                folders.append(at)
            at += image[at]


def _still_rock_ridge(image: bytearray, record: int) -> None:
    name_length = image[record + 32]
    areas = [(record + 33 + name_length + (name_length + 1) % 2, record + image[record])]
    while areas:
        at, end = areas.pop()
        while at + 4 <= end and image[at + 2] >= 4:
            kind, length = bytes(image[at : at + 2]), image[at + 2]
            if kind == b"TF":
                count = (image[at + 4] & 0x7F).bit_count()
                image[at + 5 : at + 5 + 7 * count] = _MOMENT * count
            elif kind == b"CE":  # goes on elsewhere
                start = _number(image, at + 4) * _BLOCK + _number(image, at + 12)
                areas.append((start, start + _number(image, at + 20)))
            at += length


def _number(image: bytearray, at: int) -> int:
    return int(struct.unpack_from("<I", image, at)[0])
