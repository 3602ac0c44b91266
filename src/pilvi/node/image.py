"""Builds the node image of a Kubernetes version, in the two shapes that machines run.

The artefact is a folder `node-image-<version>-<hash>` of the kit:

    root/                  the root tree of a sandbox: a node's programs, and an init of ours
    containerd/            a containerd state with the node's container images unpacked
    disk.raw               both in one ext4 file system for a virtual machine, with systemd (`disk`)
    vmlinuz, initrd        the kernel that boots it
    image.json             written last

It is built under another name and renamed when complete; the hash covers everything that goes in. Nothing in it is ever written again:
machines lay their own layer over root and disk.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pilvi.lib.files import remove_tree, write_json
from pilvi.node.containerd_state import make_containerd_state
from pilvi.node.debian import LEFT_OUT, SUITE, bootstrap_debian
from pilvi.node.disk import GUEST_FILES, GUEST_PACKAGES, make_node_disk
from pilvi.node.programs import PACKAGES, NodePrograms, install_programs
from pilvi.node.reference import MANIFEST, NodeImage

_RECIPE = "2"  # raise when the code makes another image from the same inputs


class NodeImageInputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node image is made from. `pause` is the reference of the sandbox image; it must be among `archives`."""

    version: str
    programs: NodePrograms
    archives: tuple[Path, ...]
    pause: str

    def digest(self) -> str:
        """Twelve hex digits over everything that goes in. Reads the files, some 400 MB."""
        state = hashlib.sha256(repr((_RECIPE, SUITE, PACKAGES, GUEST_PACKAGES, LEFT_OUT, self.version, self.pause)).encode())
        files = [*self.programs.targets().items(), *((archive.name, archive) for archive in self.archives), *_guest_files()]
        for name, path in sorted(files):
            with path.open("rb") as stream:
                state.update(f"\0{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
        return state.hexdigest()[:12]


async def build_node_image(inputs: NodeImageInputs, kit: Path, progress: Callable[[str], None]) -> NodeImage:
    """Build the image below the kit's folder unless it is there; idempotent and safe to interrupt.

    `progress` gets a short line at each step. Needs root and Debian's package archive. Raises DriverError with the failed command,
    OSError when the disk refuses.
    """
    progress("node image: reading its parts")
    folder = kit / f"node-image-{inputs.version}-{await asyncio.to_thread(inputs.digest)}"
    image = NodeImage(version=inputs.version, folder=folder, pause=inputs.pause)
    if folder.exists():
        return image
    unfinished = msgspec.structs.replace(image, folder=kit / f".{folder.name}.new")
    await asyncio.to_thread(remove_tree, unfinished.folder)
    unfinished.folder.mkdir(parents=True)
    try:
        progress(f"node image: installing {len(PACKAGES)} Debian packages")
        await bootstrap_debian(unfinished.root, PACKAGES)
        progress("node image: adding the node's programs")
        await asyncio.to_thread(_fill, unfinished.root, inputs.programs)
        progress(f"node image: unpacking {len(inputs.archives)} container images")
        await make_containerd_state(unfinished.containerd, inputs.archives, inputs.programs.containerd, inputs.programs.ctr)
        progress("node image: the disk for virtual machines")
        await make_node_disk(unfinished, inputs.programs, unfinished.folder / "scratch")
        write_json(unfinished.folder / MANIFEST, {"version": image.version, "pause": image.pause}, mode=0o644)
        unfinished.folder.chmod(0o755)
        unfinished.folder.rename(folder)
    except BaseException:
        remove_tree(unfinished.folder)  # blocking, so that cancellation cannot cut it short
        raise
    return image


def _fill(root: Path, programs: NodePrograms) -> None:
    install_programs(root, programs)
    systemctl = root / "usr/bin/systemctl"
    systemctl.unlink(missing_ok=True)
    systemctl.symlink_to("../lib/pilvi/node-init")


def _guest_files() -> Iterator[tuple[str, Path]]:
    return ((str(path.relative_to(GUEST_FILES)), path) for path in GUEST_FILES.rglob("*") if path.is_file())
