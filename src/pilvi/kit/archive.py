"""The finished artefacts as one tar file, for other machines and for CI.

The first member is `kit.json` (format, machine, folders); then come the regular files of each artefact, its `artefact.json` first. Links
are not members: they are made from the metadata. On import each path, size and hash is checked, and artefacts appear only when all of
them are whole. The hashes find damage, not malice: import archives only from where you would take programs.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from pilvi.errors import UserError
from pilvi.kit.artefact import METADATA, Artefact, read_artefact, seal
from pilvi.kit.store import BUILD_HINT, Listed, Store
from pilvi.lib.files import remove_tree

__all__ = ["export_archive", "import_archive"]

_FORMAT = 1
_INDEX = "kit.json"
_METADATA_LIMIT_BYTES = 1024**2  # what is decoded in memory; real ones have a few kB
_NOT_A_KIT = "give a file that `pilvi kit export` made"

T = TypeVar("T")


class _Index(msgspec.Struct, frozen=True):
    format: int
    machine: str
    folders: list[str]


def export_archive(store: Store, path: Path) -> list[Listed]:
    """Write every built artefact that this pilvi uses to `path`, compressed by gzip when its name ends in .gz or .tgz. Blocks.

    `path` holds the whole archive or what it held before. Returns what was written. Raises UserError when nothing is built, or the disk
    refuses.
    """
    listed = [item for item in store.list_artefacts() if item.state == "built"]
    if not listed:
        raise UserError(f"there is nothing to export: no artefact is built in {store.root}", hint=BUILD_HINT)
    index = _Index(_FORMAT, platform.machine(), [item.path.name for item in listed])
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            mode = "w|gz" if path.suffix in {".gz", ".tgz"} else "w|"
            with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is one of two literals
                _add(tar, _INDEX, msgspec.json.encode(index))
                for item in listed:
                    _add_artefact(tar, item.path)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as e:
        raise UserError(f"the archive {path} cannot be written: {e.strerror}", hint="choose a folder on a disk with space") from e
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return listed


def import_archive(store: Store, path: Path) -> list[Listed]:
    """Take the artefacts that this pilvi uses and has not built from an archive. Blocks. Returns all artefacts of the store.

    Raises UserError, and changes nothing, when the file is no archive of a kit, is damaged, holds paths that lead out of it, was made on
    another kind of machine, holds nothing of use to this pilvi, or the disk refuses.
    """
    with store.locked():
        staging = store.root / ".import-archive"
        staging.mkdir()
        try:
            with tarfile.open(path, mode="r|*") as tar:
                wanted = {store.path(name).name for name in store.keys}
                found = _extract(tar, path, wanted, staging)
            for folder in found:
                if not (store.root / folder).exists():
                    (staging / folder).rename(store.root / folder)
        except FileNotFoundError as e:
            raise UserError(f"there is no archive {path}", hint=_NOT_A_KIT) from e
        except (tarfile.TarError, EOFError, zlib.error) as e:
            raise UserError(f"{path} is not an archive of a kit, or is damaged", hint=_NOT_A_KIT) from e
        except OSError as e:
            raise UserError(f"{path} cannot be imported: {e.strerror}", hint=f"check the space on the disk of {store.root}") from e
        finally:
            remove_tree(staging)
    return store.list_artefacts()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _add_artefact(tar: tarfile.TarFile, folder: Path) -> None:
    artefact = read_artefact(folder)
    _add(tar, f"{folder.name}/{METADATA}", (folder / METADATA).read_bytes())
    for name, file in artefact.files.items():
        info = tarfile.TarInfo(f"{folder.name}/{name}")
        info.size, info.mode = file.size, 0o755 if file.executable else 0o644
        with (folder / name).open("rb") as source:
            tar.addfile(info, source)


def _extract(tar: tarfile.TarFile, path: Path, wanted: set[str], staging: Path) -> list[str]:
    """Unpack the wanted artefacts below `staging`; returns their folders' names when each is whole."""
    index = _read_index(tar, path)
    if not wanted & set(index.folders):
        raise UserError(f"{path} was made by another version of pilvi: none of its artefacts is of use here", hint=BUILD_HINT)
    artefacts: dict[str, Artefact] = {}
    while (member := tar.next()) is not None:  # iterating would begin again at the index
        folder, _, name = member.name.partition("/")
        if folder not in index.folders or not member.isreg() or not _is_inside(name):
            raise UserError(f"{path} holds {member.name!r}, which does not belong into a kit", hint=_NOT_A_KIT)
        if folder not in wanted:
            continue
        if folder not in artefacts:
            artefacts[folder] = _begin(tar, member, path, folder, staging)
            continue
        file = artefacts[folder].files.get(name)
        if file is None or file.size != member.size:
            raise UserError(f"{path}: {member.name} is not what {folder}/{METADATA} says", hint=_NOT_A_KIT)
        target = staging / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        with target.open("xb") as output:
            if source is not None:
                shutil.copyfileobj(source, output, 1024**2)
        target.chmod(0o755 if file.executable else 0o644)
    for folder in (name for name in index.folders if name in wanted):
        if folder not in artefacts:
            raise UserError(f"{path} is cut off: {folder} is missing", hint=_NOT_A_KIT)
        _finish(staging / folder, artefacts[folder], path)
    return list(artefacts)


def _read_index(tar: tarfile.TarFile, path: Path) -> _Index:
    member = tar.next()
    if member is None or member.name != _INDEX:
        raise UserError(f"{path} is not an archive of a kit: it does not begin with {_INDEX}", hint=_NOT_A_KIT)
    index = _decode(tar, member, path, _Index)
    if index.format != _FORMAT:
        raise UserError(f"{path} has format {index.format}, and this pilvi reads format {_FORMAT}", hint="use the pilvi that made it")
    if index.machine != platform.machine():
        raise UserError(f"{path} holds programs for {index.machine}, and this machine is {platform.machine()}")
    return index


def _begin(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, folder: str, staging: Path) -> Artefact:
    if member.name != f"{folder}/{METADATA}":
        raise UserError(f"{path}: {folder} does not begin with {METADATA}", hint=_NOT_A_KIT)
    artefact = _decode(tar, member, path, Artefact)
    targets_inside = all("/" not in target and target not in {"", ".", ".."} for target in artefact.links.values())
    if artefact.folder != folder or not targets_inside or not all(map(_is_inside, [*artefact.files, *artefact.links])):
        raise UserError(f"{path}: {member.name} names paths that do not belong into {folder}", hint=_NOT_A_KIT)
    (staging / folder).mkdir()
    return artefact


def _finish(folder: Path, artefact: Artefact, path: Path) -> None:
    for name, target in artefact.links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    sealed = seal(folder, artefact)
    for name in sorted(artefact.files.keys() | sealed.files.keys()):
        if artefact.files.get(name) != sealed.files.get(name):
            raise UserError(f"{path} is damaged: {folder.name}/{name} is not what its checksum says", hint="copy the archive again")


def _decode(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, kind: type[T]) -> T:
    source = tar.extractfile(member) if member.isreg() and member.size <= _METADATA_LIMIT_BYTES else None
    try:
        return msgspec.json.decode(source.read() if source else b"", type=kind)
    except msgspec.DecodeError as e:
        raise UserError(f"{path}: {member.name} cannot be read", hint=_NOT_A_KIT) from e


def _is_inside(name: str) -> bool:
    pure = PurePosixPath(name)
    return bool(name) and not pure.is_absolute() and ".." not in pure.parts and str(pure) == name
