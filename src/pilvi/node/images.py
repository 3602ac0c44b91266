"""The node images beside the kit's artefacts, one for each Kubernetes version: found quickly, built, exported, imported.

    <kit>/node-image-<version>-<digest>/   the images; the digest covers the content of everything that went in
    <kit>/node-images.json                 which of them is made of this pilvi's kit, by the keys of its artefacts

The digest reads 400 MB, the keys only names: with the file a repeated `pilvi up` finds its images in milliseconds.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from pilvi import kit
from pilvi.errors import DriverError, UserError
from pilvi.host.locks import find_lock
from pilvi.lib.deadline import wait_for
from pilvi.lib.files import remove_tree, write_json
from pilvi.lib.run import run
from pilvi.node import containerd_state, debian, disk, image, programs
from pilvi.node.build import ensure_node_image
from pilvi.node.programs import find_programs
from pilvi.node.reference import MANIFEST

__all__ = ["ListedImage", "append_node_images", "ensure_node_images", "extract_node_images", "list_images", "without_builder"]

INDEX = "node-images.json"
_LOCK = ".node-images.lock"
_BUILD_TIMEOUT_S = 900.0
_TAR_TIMEOUT_S = 1800.0
# Owners, device nodes and overlay's attributes are part of a root tree and of a containerd state.
_TAR = ("tar", "--sparse", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")


class _Entry(msgspec.Struct, frozen=True):
    key: str
    folder: str


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One line of a list: the image of a version that is built or missing, or a folder that is of no use to this pilvi (`stale`)."""

    version: str
    state: Literal["built", "missing", "stale"]
    path: Path | None = None


def list_images() -> list[ListedImage]:
    """The image of every Kubernetes version of this pilvi, then stale ones. Reads names only."""
    root, known = kit.get_folder(), _read_index()
    listed = []
    for version in kit.kubernetes_versions():
        path = _find(root, known, version)
        listed.append(ListedImage(version, "built" if path else "missing", path))
    used = {item.path for item in listed}
    for manifest in sorted(root.glob(f"node-image-*/{MANIFEST}")):
        if manifest.parent not in used:
            listed.append(ListedImage(manifest.parent.name.split("-")[2], "stale", manifest.parent))
    return listed


async def ensure_node_images(progress: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Build the image of every Kubernetes version unless it is there; returns their folders. The kit must be built.

    While another pilvi command builds, this waits for it. `progress` gets a short line at each step. Raises as `ensure_node_image` does,
    TimedOut when the other one does not end.
    """
    if any(item.state == "missing" for item in list_images()):
        async with _only_builder(progress):
            for item in list_images():  # anew: the one before may have built it
                if item.state == "missing":
                    built = await ensure_node_image(item.version, progress)
                    _remember({item.version: _Entry(_key(item.version), built.folder.name)})
    return [item.path for item in list_images() if item.state == "built" and item.path is not None]


@asynccontextmanager
async def _only_builder(progress: Callable[[str], None]) -> AsyncIterator[None]:
    """Two that build the same image would remove each other's unfinished folder."""
    path = kit.get_folder() / _LOCK
    lock = find_lock(path)
    if lock is None:
        progress("another pilvi command builds node images")
        lock = await wait_for(lambda: find_lock(path), _BUILD_TIMEOUT_S, "another pilvi command to build node images", interval_s=0.1)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def without_builder() -> Iterator[None]:
    """Keep others from building node images while the block runs. Raises UserError when one is being built."""
    lock = find_lock(kit.get_folder() / _LOCK)
    if lock is None:
        raise UserError("another pilvi command builds node images", hint="wait until it has finished")
    try:
        yield
    finally:
        os.close(lock)


async def append_node_images(archive: Path) -> list[Path]:
    """Append the images of this pilvi to an archive of the kit as a second tar archive; returns their folders.

    Raises UserError when the disk refuses.
    """
    folders = [item.path for item in list_images() if item.state == "built" and item.path is not None]
    if not folders:
        return []
    root = kit.get_folder()
    part = archive.with_name(f".{archive.name}.node-images")
    compress = ["--gzip"] if archive.suffix in {".gz", ".tgz"} else []
    try:
        await run([*_TAR, *compress, "-C", root, "-cf", part, INDEX, *(folder.name for folder in folders)], timeout_s=_TAR_TIMEOUT_S)
        with part.open("rb") as source, archive.open("ab") as target:
            shutil.copyfileobj(source, target, 1024**2)
    except (DriverError, OSError) as e:
        raise UserError(f"the archive {archive} cannot be written", hint="choose a folder on a disk with space") from e
    finally:
        part.unlink(missing_ok=True)
    return folders


async def extract_node_images(archive: Path) -> list[Path]:
    """Take the images that were made of this pilvi's kit out of an archive of the kit; returns the folders that are new.

    Images of other kits stay in the archive. Raises UserError when it is damaged or the disk refuses; nothing is changed then.
    """
    root = kit.get_folder()
    staging = root / ".import-node-images"
    remove_tree(staging)
    staging.mkdir()
    try:
        done = await run(
            # Its end marker would end the reading after the kit's own part.
            [*_TAR, "--ignore-zeros", "-C", staging, "-xf", archive, "--wildcards", "node-image-*", INDEX],
            timeout_s=_TAR_TIMEOUT_S,
            check=False,
        )
        if not (staging / INDEX).exists():
            return []  # made by a pilvi without node images, or before they were built
        if done.code != 0:
            raise UserError(
                f"{archive} cannot be unpacked: {done.stderr.strip()}", hint="copy the archive again, or free space on its disk"
            )
        fresh = []
        for version, entry in _decode(staging / INDEX).items():
            source, target = staging / entry.folder, root / entry.folder
            if version not in kit.kubernetes_versions() or entry.key != _key(version) or not (source / MANIFEST).exists():
                continue
            if not target.exists():
                source.rename(target)
                fresh.append(target)
            _remember({version: entry})
        return fresh
    finally:
        remove_tree(staging)


def _find(root: Path, known: dict[str, _Entry], version: str) -> Path | None:
    entry = known.get(version)
    if entry is None or not (root / entry.folder / MANIFEST).exists():
        return None
    try:
        return root / entry.folder if entry.key == _key(version) else None
    except UserError:
        return None  # the kit itself is not built


def _key(version: str) -> str:
    """Changes with the kit's artefacts and with the code that makes an image of them. Raises UserError when the kit is not built."""
    root = kit.get_folder()
    targets = find_programs(lambda name: kit.get_binary(name, version)).targets()
    parts = [f"{target}={path.relative_to(root)}" for target, path in sorted(targets.items())]
    parts += [str(path.relative_to(root)) for path in kit.image_archives(version)]
    state = hashlib.sha256("\n".join(parts).encode())
    for module in (image, programs, debian, disk, containerd_state):
        state.update(inspect.getsource(module).encode())
    for path in sorted(path for path in disk.GUEST_FILES.rglob("*") if path.is_file()):
        state.update(path.read_bytes())
    return state.hexdigest()[:12]


def _remember(entries: dict[str, _Entry]) -> None:
    write_json(kit.get_folder() / INDEX, {**_read_index(), **entries}, mode=0o644)


def _read_index() -> dict[str, _Entry]:
    try:
        return _decode(kit.get_folder() / INDEX)
    except FileNotFoundError:
        return {}


def _decode(path: Path) -> dict[str, _Entry]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Entry])
    except msgspec.DecodeError:
        return {}  # only a memory of what is there; it is made again
