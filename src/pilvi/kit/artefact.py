"""One finished folder of the kit: what it holds, how it is closed, how it is read.

An artefact is a folder `<name>-<key>` with an `artefact.json` in it. It is filled under another name and appears by one rename after
everything in it is on disk, so a folder of that name is always whole. Nothing writes into it afterwards.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from pilvi.errors import UserError
from pilvi.lib.files import write_json

__all__ = ["METADATA", "Artefact", "File", "read_artefact", "seal"]

METADATA = "artefact.json"


class File(msgspec.Struct, frozen=True):
    """One regular file: SHA-256 in hex, size in bytes, and whether it may be executed."""

    sha256: str
    size: int
    executable: bool


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """`artefact.json`. Paths are relative to the folder; `links` maps a path to the name of its neighbour that it points to.

    `versions` says what is inside, `built` how it came to be (seconds, Go).
    """

    name: str
    key: str
    machine: str
    versions: dict[str, str] = {}
    built: dict[str, str] = {}
    files: dict[str, File] = {}
    links: dict[str, str] = {}

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.name}-{self.key}"

    @property
    def size_bytes(self) -> int:
        """Sum of its files."""
        return sum(file.size for file in self.files.values())


def seal(folder: Path, artefact: Artefact) -> Artefact:
    """Close a filled folder: set modes, put every file on disk, and write the metadata with the files and links found. Blocks.

    Modes are 0755 and 0644 whatever the umask is, because units run as users of their own. Raises OSError.
    """
    files, links = {}, {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            links[name] = os.readlink(path)
        elif path.is_dir():
            path.chmod(0o755)
        else:
            executable = bool(path.stat().st_mode & 0o100)
            path.chmod(0o755 if executable else 0o644)
            files[name] = File(_hash_on_disk(path), path.stat().st_size, executable)
    folder.chmod(0o755)
    sealed = msgspec.structs.replace(artefact, files=files, links=links)
    write_json(folder / METADATA, sealed, mode=0o644)
    return sealed


def read_artefact(folder: Path) -> Artefact:
    """The metadata of a folder. Raises UserError when it is damaged or missing."""
    try:
        return msgspec.json.decode((folder / METADATA).read_bytes(), type=Artefact)
    except (OSError, msgspec.DecodeError) as e:
        raise UserError(f"{folder / METADATA} cannot be read", hint=f"remove {folder} and run `pilvi kit build`") from e


def _hash_on_disk(path: Path) -> str:
    """SHA-256 of a file in hex; its content is on disk when this returns."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
    return digest.hexdigest()
