"""Disks as qcow2 files: a layer over a file that is shared, or an empty disk that takes room only for what is written.

A layer names its base for people only: QEMU gets the base as an open file, with its format.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pilvi.errors import DriverError, NoSpace, UserError
from pilvi.host.disks.confine import is_full
from pilvi.host.disks.files import check_size, unfinished
from pilvi.host.disks.formats import SECTOR, read_image
from pilvi.lib.disk import on_disk
from pilvi.lib.run import run

__all__ = ["create_empty", "create_overlay"]

_TIMEOUT_S = 60.0


async def create_overlay(path: Path, base: Path, base_format: Literal["raw", "qcow2"], size_bytes: int) -> None:
    """Make `path` a layer of that size over `base`, which must not change any more. It is there whole or not at all, for root only.

    Raises UserError for a layer that is smaller than its base, whose end it would cut off, NoSpace, DriverError, OSError (no base).
    """
    base_bytes = await on_disk(_base_bytes, base, base_format)
    if size_bytes < base_bytes:
        raise UserError(
            f"a disk of {size_bytes} bytes is too small for its image, which has {base_bytes}", hint=f"ask for at least {base_bytes} bytes"
        )
    # -u: the base is not opened. It may be locked by a machine, and its size is known.
    await _create(path, ["-u", "-F", base_format, "-b", await on_disk(base.absolute)], size_bytes)


async def create_empty(path: Path, size_bytes: int) -> None:
    """Make `path` an empty disk. It is there whole or not at all, for root only. Raises UserError, NoSpace, DriverError."""
    await _create(path, [], size_bytes)


def _base_bytes(base: Path, base_format: Literal["raw", "qcow2"]) -> int:
    """A raw base is not looked into: a guest may have written it."""
    if base_format == "qcow2":
        return read_image(base).virtual_size_bytes
    return -(-base.stat().st_size // SECTOR) * SECTOR


async def _create(path: Path, options: list[str | os.PathLike[str]], size_bytes: int) -> None:
    check_size(size_bytes)
    async with unfinished(path) as (new, _):
        try:
            await run(["qemu-img", "create", "-q", "-f", "qcow2", *options, new, str(size_bytes)], timeout_s=_TIMEOUT_S)
        except DriverError as e:
            if is_full(e):
                raise NoSpace(f"the file system of {path.parent} is full", hint="make room there") from e
            raise
