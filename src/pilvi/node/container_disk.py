"""Node images as container disks in the cloud's registry, put there when somebody first asks the engine for one.

Workers do not need it: they run from the kit's own files. So it costs nothing until a volume, an import or a kernel names
`pilvi.dev/node:<version>`. The engine that pulls has it stored first: the disk as qcow2 below /disk, kernel and initrd below /boot. The
manifest tells of which build it was made, so another build of the same version takes its place, and one that is there is not made again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pilvi.errors import DriverError, NoSpace, PilviError, Transient
from pilvi.host.disks import allocated_bytes, free_bytes
from pilvi.images import Credentials, Endpoint, Reference, parse_reference
from pilvi.images.push import Writer
from pilvi.images.wrap import open_disk, wrap_files
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree
from pilvi.node.reference import NodeImage, find_node_image, node_image_reference, parse_node_image

__all__ = ["NodeDisks", "plan_layers"]

BUILD = "dev.pilvi.node-image"
"""Annotation of the manifest: the folder of the kit that it was made of."""
_RESERVE_BYTES = 256 << 20

log = logging.getLogger(__name__)


class NodeDisks:
    """The registry at `endpoint` with the node images of the kit in the folder `kit`. `run` has to run for anything to be stored.

    `credentials` finds what it takes to push, `scratch` is a folder that is used by nobody else.
    """

    def __init__(self, endpoint: Endpoint, credentials: Callable[[], Awaitable[Credentials]], kit: Path, scratch: Path) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._kit = kit
        self._scratch = scratch
        self._wanted: asyncio.Queue[tuple[Reference, NodeImage, asyncio.Future[None]]] = asyncio.Queue()

    async def offer(self, reference: Reference) -> None:
        """Return when the registry has the node image that this names; at once for every other reference.

        Who stops waiting stops nothing. Raises UserError and Transient, of which the reason is told.
        """
        version = parse_node_image(str(reference))
        image = await on_disk(find_node_image, version, self._kit) if version is not None else None
        if image is None:
            return
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.put_nowait((reference, image, ended))
        await ended

    async def run(self) -> None:
        """Store what is asked for, one after the other. Ends by cancellation only."""
        await on_disk(remove_tree, self._scratch)  # of an engine that was killed
        while True:
            reference, image, ended = await self._wanted.get()
            try:
                await self._store(reference, image)
            except (PilviError, OSError) as e:
                if not ended.cancelled():
                    ended.set_exception(e if isinstance(e, PilviError) else Transient(f"{reference} cannot be stored: {e}", 10.0))
            else:
                if not ended.cancelled():
                    ended.set_result(None)

    async def _store(self, reference: Reference, image: NodeImage) -> None:
        async with Writer(self.endpoint, await self._credentials()) as writer:
            if await self._has(writer, reference, image):
                return
            named = parse_reference(node_image_reference(image.version))
            if reference != named and await self._has(writer, named, image):
                await writer.tag(named, reference.tag)
                return
            began = time.monotonic()
            await on_disk(self._prepare, image)
            try:
                async with open_disk(image.disk, self._scratch) as disk:
                    bundle = await wrap_files(plan_layers(image, disk), {BUILD: image.folder.name})
                    await writer.push(reference, bundle)
            except DriverError as e:
                raise NoSpace(f"{reference} cannot be stored", hint=f"look whether the disk of {self._scratch.parent} is full") from e
            finally:
                await on_disk(remove_tree, self._scratch)
            log.info("image=%s is stored in the registry, %d MB in %.0f s", reference, bundle.size_bytes >> 20, time.monotonic() - began)

    @staticmethod
    async def _has(writer: Writer, reference: Reference, image: NodeImage) -> bool:
        stored = await writer.find(reference)
        return stored is not None and stored.annotations.get(BUILD) == image.folder.name

    def _prepare(self, image: NodeImage) -> None:
        remove_tree(self._scratch)
        self._scratch.mkdir(mode=0o700, parents=True)
        needed = 2 * allocated_bytes(image.disk) + _RESERVE_BYTES
        free = free_bytes(self._scratch)
        if free < needed:
            raise NoSpace(
                f"to store {image.version} of the node image takes {needed >> 20} MB for a while, and {free >> 20} MB are free",
                hint=f"make room on the disk of {self._scratch.parent}",
            )


def plan_layers(image: NodeImage, disk: Path) -> list[dict[str, Path]]:
    """What lies where in the image, the lowest layer first. The disk is on top: who wants it alone does not fetch the rest. Pure."""
    return [{"boot/vmlinuz": image.kernel, "boot/initrd": image.initrd}, {"disk/disk.qcow2": disk}]
