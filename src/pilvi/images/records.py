"""What the store notes about images beside their content."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from pilvi.errors import UserError
from pilvi.lib.files import find_json

__all__ = ["Known", "Named", "find_record"]

T = TypeVar("T")


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference stood for when it was last asked for: the digest of a manifest. The file's time is when it was last wanted."""

    reference: str
    digest: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The file that the image of that digest holds. `format` and `size_bytes` are of disks only."""

    digest: str
    file: str
    format: Literal["raw", "qcow2"] | None = None
    size_bytes: int = 0


def find_record(path: Path, type_: type[T]) -> T | None:
    """None when there is no such file, or one that says something else (of an older pilvi, or cut off): it is made again then."""
    try:
        return msgspec.convert(find_json(path), type_)
    except (msgspec.ValidationError, UserError):
        return None
