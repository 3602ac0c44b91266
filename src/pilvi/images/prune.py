"""Removes from the store what no machine names any more.

The rule: an image stays as long as something that is there names it, and a day beyond. A file that somebody has linked to (machines link to
what they run from) stays for the store too, since removing it would free nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from pilvi.images.records import Known, Named, find_record

__all__ = ["KEEP_S", "prune"]

KEEP_S = 24 * 3600.0
"""How long an image stays that nothing names."""


def prune(folder: Path, wanted: set[str]) -> list[str]:
    """Remove what nothing in `wanted` (references) has named for KEEP_S; names of the disks and files that were removed. Blocks.

    Nobody may pull meanwhile. Raises OSError; what has been removed by then was to go.
    """
    limit = time.time() - KEEP_S
    digests: set[str] = set()
    for path in _files(folder / "named"):
        named = find_record(path, Named)
        if named is not None and named.reference in wanted:
            os.utime(path)
        elif path.stat().st_mtime < limit:
            path.unlink()
            continue
        if named is not None:
            digests.add(named.digest)
    kept: set[str] = set()
    for path in _files(folder / "known"):
        known = find_record(path, Known)
        if known is not None and known.digest in digests:
            kept.add(known.file)
        else:
            path.unlink()
    removed: list[str] = []
    for name in ("disks", "files", "blobs"):
        for path in _files(folder / name):
            found = path.stat()
            is_unfinished = name == "blobs" or path.name.startswith(".")
            if path.name in kept or found.st_nlink > 1 or (is_unfinished and found.st_mtime >= limit):
                continue
            path.unlink()
            removed.append(path.name)
    return removed


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())
