"""The record of a unit: a small file that lets any later pilvi find the process again.

<run>/units/<name>.json   0600, written by `launch.py` before the program begins; `.<name>.json.new` until it is whole
<run>/units/<name>.lock   held while somebody starts, replaces or stops the unit
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from pilvi.errors import Bug
from pilvi.host import codec
from pilvi.host.locks import find_lock
from pilvi.host.units.identity import Identity
from pilvi.host.units.spec import UnitSpec
from pilvi.lib.deadline import wait_for
from pilvi.lib.files import write_atomic

__all__ = ["Record", "find_record", "list_records", "lock_unit", "record_path", "remove_record", "save_record"]

_LOCK_TIMEOUT_S = 60.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a unit that was started.

    `exit` tells how a process ended: this one when `is_over`, else the one before it.
    """

    spec: UnitSpec
    digest: str
    process: Identity
    started_at: float
    restarts: int = 0
    exit: str | None = None
    is_over: bool = False


def record_path(units_dir: Path, name: str) -> Path:
    """Where the record of that unit is."""
    return units_dir / f"{name}.json"


def find_record(units_dir: Path, name: str) -> Record | None:
    """The record of a unit, or None. A file of another format is none: its unit is started anew."""
    try:
        return codec.decode(record_path(units_dir, name).read_bytes(), Record)
    except (FileNotFoundError, msgspec.ValidationError):
        return None


def list_records(units_dir: Path) -> list[Record]:
    """All records, by name. Raises PermissionError for who may not read them: they are root's."""
    try:
        files = os.listdir(units_dir)
    except FileNotFoundError:
        return []
    names = sorted(file.removesuffix(".json") for file in files if file.endswith(".json") and not file.startswith("."))
    return [record for record in (find_record(units_dir, name) for name in names) if record is not None]


def save_record(units_dir: Path, record: Record) -> None:
    """Replace the record."""
    write_atomic(record_path(units_dir, record.spec.name), codec.encode(record), mode=0o600)


def remove_record(units_dir: Path, name: str) -> None:
    """Remove the record, and what a launcher that was killed has left of one. Nothing there is fine. With the unit's lock held."""
    path = record_path(units_dir, name)
    for file in (path, path.with_name(f".{path.name}.new")):
        file.unlink(missing_ok=True)


@asynccontextmanager
async def lock_unit(units_dir: Path, name: str) -> AsyncIterator[int]:
    """Hold the lock of one unit against other processes and tasks; yields its descriptor.

    A launcher inherits the descriptor, so that the lock holds until the record is written even if the starter is killed.
    Raises TimedOut after a minute.
    """
    _make_directory(units_dir)
    path = units_dir / f"{name}.lock"
    descriptor = await wait_for(lambda: find_lock(path), _LOCK_TIMEOUT_S, f"the lock {path}, held by another pilvi", interval_s=0.02)
    if descriptor is None:
        raise Bug("wait_for returns what is true")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(units_dir: Path) -> None:
    """The folder above is open to all: sockets of units with uids of their own live there. Records are root's."""
    units_dir.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    units_dir.mkdir(mode=0o700, exist_ok=True)
