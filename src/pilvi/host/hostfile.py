"""The one file of this host that all its clouds share: who has which range, and which host settings were changed for whom.

Reading and changing it happens under a lock, so that two clouds never choose the same. When the last cloud is gone, so is the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from pilvi.errors import UserError
from pilvi.host import codec
from pilvi.host.locks import take_lock
from pilvi.lib.files import write_atomic

__all__ = ["HOST_FILE", "CloudEntry", "HostFile", "Setting", "open_host_file"]

HOST_FILE = Path("/var/lib/pilvi-host.json")


class CloudEntry(msgspec.Struct, kw_only=True):
    """What one cloud has taken of this host."""

    home: Path
    range: IPv4Network
    transit: IPv4Network
    uid_base: int
    uid_count: int


class Setting(msgspec.Struct, kw_only=True):
    """A host-wide setting that was changed: its value before, the value that we wrote last, and the ids of the clouds that need it."""

    before: str
    ours: str
    users: list[str]


class HostFile(msgspec.Struct, kw_only=True):
    """The content: clouds by id, settings by name (as `net.ipv4.ip_forward`)."""

    clouds: dict[str, CloudEntry] = {}
    settings: dict[str, Setting] = {}


@contextmanager
def open_host_file(path: Path = HOST_FILE) -> Iterator[HostFile]:
    """Hold the lock, hand out the content, and write it back when the block has changed it and did not raise.

    Blocking; the block must be short. Raises UserError when the file is damaged.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock_path = path.with_suffix(".lock")
    lock = take_lock(lock_path)
    try:
        before = _read(path)
        content = HostFile() if before is None else _decode(path, before)
        yield content
        after = codec.encode(content)
        if content == HostFile():
            path.unlink(missing_ok=True)
            lock_path.unlink(missing_ok=True)
        elif after != before:
            write_atomic(path, after)
    finally:
        os.close(lock)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _decode(path: Path, data: bytes) -> HostFile:
    try:
        return codec.decode(data, HostFile)
    except msgspec.DecodeError as e:
        raise UserError(f"{path} is damaged", hint=f"if no cloud runs on this host, remove {path}") from e
