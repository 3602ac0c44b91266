"""What stands behind the volumes of a machine: all that was resolved, so that a backend asks no API.

`name` is the volume's name in the instance's specification; how the guest sees it is said by the disk of that name there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

__all__ = ["BootFiles", "CloudInitDisk", "EmptyDisk", "FilesDisk", "ImageDisk", "MachineVolume", "NodeDisk", "VolumeDisk"]


@dataclass(frozen=True)
class NodeDisk:
    """The node image of a Kubernetes version (`v1.37.2`), with a writable layer of the machine's own."""

    name: str
    version: str


@dataclass(frozen=True)
class ImageDisk:
    """A container disk: a shared file that is never written, with a writable layer of the machine's own."""

    name: str
    path: Path
    format: Literal["raw", "qcow2"]
    size_bytes: int


@dataclass(frozen=True)
class VolumeDisk:
    """The disk of a claim: a raw file that outlives the machine. With `ephemeral` the machine writes to a layer of its own over it."""

    name: str
    path: Path
    size_bytes: int
    read_only: bool = False
    ephemeral: bool = False


@dataclass(frozen=True)
class EmptyDisk:
    """A disk that is empty when the machine is made, and goes with it."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class CloudInitDisk:
    """What a guest's cloud-init reads at its first boot.

    `user_data` is None when it is not to be had any more, and then the machine keeps what it was made with. `public_keys` are those of
    the instance's access credentials.
    """

    name: str
    source: Literal["NoCloud", "ConfigDrive"] = "NoCloud"
    user_data: bytes | None = b""
    network_data: bytes = b""
    meta_data: dict[str, str] = field(default_factory=dict)
    public_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class FilesDisk:
    """A read-only disk with files: of a ConfigMap, a Secret, a service account, the downward API.

    `files` is None for a machine that has run: it keeps the disk that it was made with.
    """

    name: str
    label: str
    files: dict[str, bytes] | None


@dataclass(frozen=True)
class BootFiles:
    """A kernel that starts without a boot loader: shared files that are never written, and its arguments."""

    kernel: Path
    initrd: Path | None = None
    arguments: str = ""


MachineVolume: TypeAlias = NodeDisk | ImageDisk | VolumeDisk | EmptyDisk | CloudInitDisk | FilesDisk
