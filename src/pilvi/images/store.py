"""Container disks and kernels that were pulled, kept once for all machines of a cloud.

    disks/<sha256>.qcow2|raw    the disk files by their own content; never written again
    files/<sha256>              single files, such as kernels, the same way
    known/<sha256>.json         what an image (its manifest's digest, and the path in it) was found to hold
    named/<sha256>.json         the manifest that a reference stood for when it was last asked for
    blobs/<sha256>              layers on their way; they go when what is wanted has been taken out of them

Who needs a disk or a file for long makes a hard link to it, so that `prune.py` may remove what nobody names any more.

Files come into being by renaming, so that what is there is whole. Layers that were cut off go on where they ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeVar

import msgspec

from pilvi.errors import Transient, UserError
from pilvi.host.disks import read_image
from pilvi.images.endpoint import Endpoint
from pilvi.images.files import Place, find_files, take_files
from pilvi.images.layers import Hidden, take_disk
from pilvi.images.manifest import Blob, Manifest
from pilvi.images.prune import prune
from pilvi.images.records import Known, Named, find_record
from pilvi.images.reference import Reference
from pilvi.images.registry import Credentials, Registry
from pilvi.lib.disk import on_disk
from pilvi.lib.files import write_json

__all__ = ["ContainerDisk", "ImageStore", "OwnRegistry", "Policy", "Progress"]

Policy: TypeAlias = Literal["Always", "IfNotPresent", "Never"]
Progress: TypeAlias = Callable[[int, int], None]
"""Bytes that have come, and bytes of all layers that are needed."""

T = TypeVar("T")
Found: TypeAlias = Callable[[str], T | None]
Pull: TypeAlias = Callable[[Registry, str, Manifest], Awaitable[T]]

_RESERVE_BYTES = 256 << 20


class OwnRegistry(Protocol):
    """The registry of the cloud itself, which is asked at its endpoint."""

    endpoint: Endpoint

    async def offer(self, reference: Reference) -> None:
        """Return when it has what it may have under that name. Raises UserError, Transient."""


class ContainerDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk in the store: its file and format, what size a guest sees, and the digest of the image's manifest."""

    path: Path
    format: Literal["raw", "qcow2"]
    size_bytes: int
    digest: str


def _counted(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    """Adds what came before to what is said of one layer."""
    return lambda have: progress(before + have, total)


class ImageStore:
    """The store in `folder`. One process uses it; many tasks may."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = asyncio.Lock()
        self.insecure: frozenset[str] = frozenset()
        """Hosts of registries whose certificate does not count, or that have none. May be set at any time."""
        self.own: OwnRegistry | None = None
        """The cloud's own registry, for references with its host. Set before anything is pulled."""

    def find(self, reference: Reference, credentials: Credentials | None = None, path: str | None = None) -> ContainerDisk | None:
        """The disk that the reference stood for when it was last asked for with these credentials; None when it is not here.

        Who may not pull an image does not get it because somebody else has.
        """
        digest = self._find_digest(reference, credentials)
        return self._find(digest, path) if digest else None

    def find_files(self, reference: Reference, paths: tuple[str, ...], credentials: Credentials | None = None) -> tuple[Path, ...] | None:
        """As `find`, but single files of the image, in the order of their paths; None unless all are here."""
        digest = self._find_digest(reference, credentials)
        return self._find_files(digest, paths) if digest else None

    async def ensure(
        self,
        reference: Reference,
        policy: Policy,
        credentials: Credentials | None = None,
        path: str | None = None,
        progress: Progress = lambda _done, _all: None,
    ) -> ContainerDisk:
        """The disk of this image, pulled when it is not here, or with `Always` when the registry has another one by now.

        Raises UserError for what a person must mend, Transient when the registry fails or answers nothing, OSError when the disk refuses.
        """

        async def pull(registry: Registry, digest: str, manifest: Manifest) -> ContainerDisk:
            return await self._pull(registry, reference, digest, manifest, path, progress)

        return await self._ensure(reference, policy, credentials, lambda digest: self._find(digest, path), pull)

    async def ensure_files(
        self,
        reference: Reference,
        policy: Policy,
        paths: tuple[str, ...],
        credentials: Credentials | None = None,
        progress: Progress = lambda _done, _all: None,
    ) -> tuple[Path, ...]:
        """As `ensure`, but single files of the image, which everybody may read who is handed them (0444)."""

        async def pull(registry: Registry, digest: str, manifest: Manifest) -> tuple[Path, ...]:
            return await self._pull_files(registry, reference, digest, manifest, paths, progress)

        return await self._ensure(reference, policy, credentials, lambda digest: self._find_files(digest, paths), pull)

    @asynccontextmanager
    async def registry(self, reference: Reference, credentials: Credentials | None = None) -> AsyncIterator[Registry]:
        """The registry that has this image, to be asked. Raises UserError for authorities that are no certificates, Transient."""
        own = self.own if self.own is not None and self.own.endpoint.host == reference.host else None
        if own is not None:
            await own.offer(reference)
        endpoint = None if own is None else own.endpoint
        async with Registry(reference, credentials, insecure=reference.host in self.insecure, endpoint=endpoint) as registry:
            yield registry

    async def prune(self, wanted: set[Reference]) -> list[str]:
        """Remove what came of other references than these and has not been wanted for a day; names of what was removed. Raises OSError."""
        async with self._lock:
            return await on_disk(prune, self._folder, {str(reference) for reference in wanted})

    async def _ensure(self, reference: Reference, policy: Policy, credentials: Credentials | None, find: Found[T], pull: Pull[T]) -> T:
        digest = self._find_digest(reference, credentials)
        present = find(digest) if digest else None
        if present is not None and (policy != "Always" or reference.digest):
            return present
        if policy == "Never":
            raise UserError(f"{reference} is not here, and its pull policy is Never", hint="set imagePullPolicy: IfNotPresent")
        async with self.registry(reference, credentials) as registry:
            digest, manifest = await registry.manifest()
            # One at a time: images share layers.
            async with self._lock:
                found = find(digest) or await pull(registry, digest, manifest)
                named = Named(reference=str(reference), digest=digest)
                await on_disk(write_json, self._named(reference, credentials), named)
        return found

    async def _pull(
        self, registry: Registry, reference: Reference, digest: str, manifest: Manifest, path: str | None, progress: Progress
    ) -> ContainerDisk:
        hidden, done = Hidden(), 0
        total = sum(layer.size for layer in manifest.layers)
        disk = self._make("disks") / f".{digest.removeprefix('sha256:')}.new"
        try:
            with self._fetching() as fetched:
                # From the top: what is there hides what lies below, and mostly the disk is in the last layer.
                for layer in reversed(manifest.layers):
                    blob = await self._fetch(registry, reference, layer, fetched, _counted(progress, done, total))
                    done += layer.size
                    found = await on_disk(self._take, blob, path, hidden, disk, str(reference))
                    if found is not None:
                        known = await on_disk(self._keep, disk, found, digest, str(reference))
                        await on_disk(write_json, self._known(digest, path), known)
                        break
                else:
                    where = f"no file {path}" if path else "no file below /disk"
                    raise UserError(
                        f"{reference} is no container disk: it has {where}", hint="build it FROM scratch with ADD disk.qcow2 /disk/"
                    )
        finally:
            disk.unlink(missing_ok=True)
        result = self._find(digest, path)
        if result is None:
            raise Transient(f"the disk of {reference} was removed while it was pulled")
        return result

    async def _pull_files(
        self, registry: Registry, reference: Reference, digest: str, manifest: Manifest, paths: tuple[str, ...], progress: Progress
    ) -> tuple[Path, ...]:
        done, blobs = 0, []
        total = sum(layer.size for layer in manifest.layers)
        with self._fetching() as fetched:
            for layer in manifest.layers:
                blobs.append(await self._fetch(registry, reference, layer, fetched, _counted(progress, done, total)))
                done += layer.size
            await on_disk(self._keep_files, blobs, paths, digest, str(reference))
        result = self._find_files(digest, paths)
        if result is None:
            raise Transient(f"files of {reference} were removed while it was pulled")
        return result

    @contextmanager
    def _fetching(self) -> Iterator[list[Path]]:
        """Blobs that are added to the list go at the end, but for those that are cut off: they go on another time."""
        fetched: list[Path] = []
        try:
            yield fetched
        finally:
            if not isinstance(sys.exception(), Transient | OSError | asyncio.CancelledError):
                for blob in fetched:
                    blob.unlink(missing_ok=True)

    async def _fetch(
        self, registry: Registry, reference: Reference, layer: Blob, fetched: list[Path], progress: Callable[[int], None]
    ) -> Path:
        if layer.size > self._room():
            raise UserError(
                f"{reference} does not fit: a layer has {layer.size >> 20} MiB, and {self._room() >> 20} MiB are free",
                hint=f"make room in {self._folder}",
            )
        blob = self._make("blobs") / layer.digest.removeprefix("sha256:")
        fetched.append(blob)
        with blob.open("a+b") as file:
            await registry.fetch(layer, file, progress)
        return blob

    def _take(self, blob: Path, path: str | None, hidden: Hidden, disk: Path, what: str) -> str | None:
        with disk.open("wb") as target:
            return take_disk(blob, path, hidden, target, self._room, what)

    def _keep_files(self, blobs: list[Path], paths: tuple[str, ...], digest: str, what: str) -> None:
        places = find_files(blobs, paths, what)
        folder = self._make("files")
        begun = {place: folder / f".{number}-{digest.removeprefix('sha256:')}.new" for number, place in enumerate(places.values())}
        try:
            contents: dict[Place, str] = {}
            for number, blob in enumerate(blobs):
                wanted = {place.name: path for place, path in begun.items() if place.layer == number}
                if wanted:
                    taken = take_files(blob, wanted, self._room, what)
                    contents |= {Place(number, name): content for name, content in taken.items()}
            for place, path in begun.items():
                path.chmod(0o444)
                os.replace(path, folder / contents[place])
            for wish, place in places.items():
                write_json(self._known(digest, wish, kind="file"), Known(digest=digest, file=contents[place]))
        finally:
            for path in begun.values():
                path.unlink(missing_ok=True)

    def _keep(self, disk: Path, content: str, digest: str, what: str) -> Known:
        info = read_image(disk, f"the disk of {what}")
        if info.format == "raw" and disk.stat().st_size % 512:
            with disk.open("r+b") as file:
                file.truncate(info.virtual_size_bytes)
        name = f"{content}.{info.format}"
        disk.chmod(0o444)
        os.replace(disk, self._folder / "disks" / name)
        return Known(digest=digest, file=name, format=info.format, size_bytes=info.virtual_size_bytes)

    def _find(self, digest: str, path: str | None) -> ContainerDisk | None:
        known = find_record(self._known(digest, path), Known)
        if known is None or known.format is None:
            return None
        file = self._folder / "disks" / known.file
        return ContainerDisk(path=file, format=known.format, size_bytes=known.size_bytes, digest=digest) if file.exists() else None

    def _find_files(self, digest: str, paths: tuple[str, ...]) -> tuple[Path, ...] | None:
        known = [find_record(self._known(digest, path, kind="file"), Known) for path in paths]
        files = tuple(self._folder / "files" / entry.file for entry in known if entry is not None)
        return files if len(files) == len(paths) and all(file.exists() for file in files) else None

    def _find_digest(self, reference: Reference, credentials: Credentials | None) -> str | None:
        named = find_record(self._named(reference, credentials), Named)
        return None if named is None else named.digest

    def _known(self, digest: str, path: str | None, kind: Literal["disk", "file"] = "disk") -> Path:
        return self._make("known") / f"{_hash(f'{kind} {digest} {path}')}.json"

    def _named(self, reference: Reference, credentials: Credentials | None) -> Path:
        who = "" if credentials is None else f" {credentials.user}:{credentials.password}"
        return self._make("named") / f"{_hash(f'{reference}{who}')}.json"

    def _make(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _room(self) -> int:
        return max(0, shutil.disk_usage(self._folder).free - _RESERVE_BYTES)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
