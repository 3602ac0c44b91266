"""Container disks that were pulled, kept once for all machines of a cloud.

    disks/<sha256>.qcow2|raw    the disk files by their own content; never written again
    known/<sha256>.json         what an image (its manifest's digest, and the path in it) was found to hold
    named/<sha256>.json         the manifest that a reference stood for when it was last asked for
    blobs/<sha256>              layers on their way; they go when the disk is taken out of them

Files come into being by renaming, so that what is there is whole. Layers that were cut off go on where they ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pilvi.errors import Transient, UserError
from pilvi.host.disks import read_image
from pilvi.images.layers import Hidden, take_disk
from pilvi.images.manifest import Manifest
from pilvi.images.reference import Reference
from pilvi.images.registry import Credentials, Registry
from pilvi.lib.disk import on_disk
from pilvi.lib.files import find_json, write_json

__all__ = ["ContainerDisk", "ImageStore", "Policy", "Progress"]

Policy: TypeAlias = Literal["Always", "IfNotPresent", "Never"]
Progress: TypeAlias = Callable[[int, int], None]
"""Bytes that have come, and bytes of all layers that are needed."""

_RESERVE_BYTES = 256 << 20


class ContainerDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk in the store: its file and format, what size a guest sees, and the digest of the image's manifest."""

    path: Path
    format: Literal["raw", "qcow2"]
    size_bytes: int
    digest: str


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    format: Literal["raw", "qcow2"]
    size_bytes: int


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

    def find(self, reference: Reference, credentials: Credentials | None = None, path: str | None = None) -> ContainerDisk | None:
        """The disk that the reference stood for when it was last asked for with these credentials; None when it is not here.

        Who may not pull an image does not get it because somebody else has.
        """
        digest = find_json(self._named(reference, credentials))
        return self._find(digest, path) if digest else None

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
        present = self.find(reference, credentials, path)
        if present is not None and (policy != "Always" or reference.digest):
            return present
        if policy == "Never":
            raise UserError(f"{reference} is not here, and its pull policy is Never", hint="set imagePullPolicy: IfNotPresent")
        async with Registry(reference, credentials, insecure=reference.host in self.insecure) as registry:
            digest, manifest = await registry.manifest()
            # One at a time: images share layers.
            async with self._lock:
                found = self._find(digest, path) or await self._pull(registry, reference, digest, manifest, path, progress)
        await on_disk(write_json, self._named(reference, credentials), digest)
        return found

    async def _pull(
        self, registry: Registry, reference: Reference, digest: str, manifest: Manifest, path: str | None, progress: Progress
    ) -> ContainerDisk:
        blobs = self._make("blobs")
        hidden, fetched, done = Hidden(), [], 0
        total = sum(layer.size for layer in manifest.layers)
        disk = self._make("disks") / f".{digest.removeprefix('sha256:')}.new"
        try:
            # From the top: what is there hides what lies below, and mostly the disk is in the last layer.
            for layer in reversed(manifest.layers):
                if layer.size > self._room():
                    raise UserError(
                        f"{reference} does not fit: a layer has {layer.size >> 20} MiB, and {self._room() >> 20} MiB are free",
                        hint=f"make room in {self._folder}",
                    )
                blob = blobs / layer.digest.removeprefix("sha256:")
                fetched.append(blob)
                with blob.open("a+b") as file:
                    await registry.fetch(layer, file, _counted(progress, done, total))
                done += layer.size
                found = await on_disk(self._take, blob, path, hidden, disk, str(reference))
                if found is not None:
                    known = await on_disk(self._keep, disk, found, str(reference))
                    await on_disk(write_json, self._known(digest, path), known)
                    break
            else:
                where = f"no file {path}" if path else "no file below /disk"
                raise UserError(
                    f"{reference} is no container disk: it has {where}", hint="build it FROM scratch with ADD disk.qcow2 /disk/"
                )
        finally:
            disk.unlink(missing_ok=True)
            if not isinstance(sys.exception(), Transient | OSError | asyncio.CancelledError):
                for blob in fetched:  # done with, or of no use; what is cut off goes on another time
                    blob.unlink(missing_ok=True)
        result = self._find(digest, path)
        if result is None:
            raise Transient(f"the disk of {reference} was removed while it was pulled")
        return result

    def _take(self, blob: Path, path: str | None, hidden: Hidden, disk: Path, what: str) -> str | None:
        with disk.open("wb") as target:
            return take_disk(blob, path, hidden, target, self._room, what)

    def _keep(self, disk: Path, digest: str, what: str) -> _Known:
        info = read_image(disk, f"the disk of {what}")
        if info.format == "raw" and disk.stat().st_size % 512:
            with disk.open("r+b") as file:
                file.truncate(info.virtual_size_bytes)
        name = f"{digest}.{info.format}"
        disk.chmod(0o444)
        os.replace(disk, self._folder / "disks" / name)
        return _Known(file=name, format=info.format, size_bytes=info.virtual_size_bytes)

    def _find(self, digest: str, path: str | None) -> ContainerDisk | None:
        content = find_json(self._known(digest, path))
        if content is None:
            return None
        known = msgspec.convert(content, _Known)
        file = self._folder / "disks" / known.file
        return ContainerDisk(path=file, format=known.format, size_bytes=known.size_bytes, digest=digest) if file.exists() else None

    def _known(self, digest: str, path: str | None) -> Path:
        return self._make("known") / f"{_hash(f'{digest} {path}')}.json"

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
