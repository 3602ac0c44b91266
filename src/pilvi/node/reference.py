"""The one place that says what a node image is called, and where a built one lies.

A VirtualMachine names it as a container disk, `pilvi.dev/node:v1.37.2`. Workers do not pull it: the engine knows it by this name and takes
what the kit holds. For everybody else it is in the cloud's registry (`container_disk`).
"""

import re
from pathlib import Path

import msgspec

from pilvi.api.registry import REGISTRY_HOST
from pilvi.lib.files import read_json

REPOSITORY = f"{REGISTRY_HOST}/node"
_REFERENCE = re.compile(rf"{re.escape(REPOSITORY)}:v?(\d+\.\d+\.\d+)")
MANIFEST = "image.json"  # written last: a folder with it is complete


class NodeImage(msgspec.Struct, frozen=True, kw_only=True):
    """A built node image in its folder (see `image`).

    `version` is the Kubernetes version with `v`, `pause` the reference of the sandbox image that containerd must keep.
    """

    version: str
    folder: Path
    pause: str

    @property
    def root(self) -> Path:
        """The root file system of a sandbox."""
        return self.folder / "root"

    @property
    def containerd(self) -> Path:
        """A containerd state in which the node's container images are unpacked."""
        return self.folder / "containerd"

    @property
    def disk(self) -> Path:
        """The root file system of a virtual machine, one raw file; its container images are in it."""
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        """What boots the disk, with `initrd`."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """See `kernel`."""
        return self.folder / "initrd"


def node_image_reference(version: str) -> str:
    """`pilvi.dev/node:v1.37.2` for `1.37.2` or `v1.37.2`."""
    return f"{REPOSITORY}:v{version.removeprefix('v')}"


def parse_node_image(reference: str) -> str | None:
    """The Kubernetes version (`v1.37.2`) that a node image reference names; None when it is some other image.

    The version is accepted with and without `v`, as manifests have both.
    """
    match = _REFERENCE.fullmatch(reference)
    return f"v{match[1]}" if match else None


def find_node_image(version: str, kit: Path) -> NodeImage | None:
    """The newest image of this Kubernetes version below the kit's folder, or None when none is built."""
    wanted = f"v{version.removeprefix('v')}"
    return next((image for image in list_node_images(kit) if image.version == wanted), None)


def list_node_images(kit: Path) -> list[NodeImage]:
    """All complete images below the kit's folder, the newest first."""
    manifests = sorted(kit.glob(f"node-image-*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [_read_image(path) for path in manifests]


def _read_image(manifest: Path) -> NodeImage:
    content = read_json(manifest)
    return NodeImage(version=content["version"], folder=manifest.parent, pause=content["pause"])
