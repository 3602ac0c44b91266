"""Disks as qcow2 files: a layer over an image that is shared, or an empty disk that takes room only for what is written."""

from __future__ import annotations

import os
from pathlib import Path

from pilvi.errors import UserError
from pilvi.lib.run import run

__all__ = ["create_disk", "create_overlay"]

_TIMEOUT_S = 60.0


async def create_overlay(path: Path, base: Path, base_format: str, size_bytes: int) -> None:
    """Make `path` a layer over `base`, which must not change any more. It is there whole or not at all, for root only.

    Raises UserError when the layer would be smaller than its base, DriverError when the disk refuses.
    """
    await _create(path, ["-F", base_format, "-b", base], size_bytes)


async def create_disk(path: Path, size_bytes: int) -> None:
    """Make `path` an empty disk. It is there whole or not at all, for root only. Raises UserError, DriverError."""
    await _create(path, [], size_bytes)


async def _create(path: Path, options: list[str | Path], size_bytes: int) -> None:
    if size_bytes <= 0:
        raise UserError(f"a disk of {size_bytes} bytes is none", hint="write a size such as 1Gi")
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    try:
        await run(["qemu-img", "create", "-q", "-f", "qcow2", *options, unfinished, str(size_bytes)], timeout_s=_TIMEOUT_S)
        unfinished.chmod(0o600)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
