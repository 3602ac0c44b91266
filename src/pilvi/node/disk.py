"""The node image for virtual machines: the same programs and container images as in the root tree, with systemd and a kernel of their own.

`disk.raw` is one ext4 file system without partitions, sparse, which a machine lays a layer of its own over; kernel and initrd lie beside
it, so nothing has to load them. Which machine it becomes is said by a tar archive on a second disk (`seed`), whose files are unpacked over
the root at every boot, and by the kernel's command line.
"""

import asyncio
import io
import shutil
import tarfile
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

import msgspec

from pilvi.lib.files import remove_tree
from pilvi.lib.run import run
from pilvi.node.debian import bootstrap_debian
from pilvi.node.files import NodeFacts, NodeFile, Surroundings, node_files
from pilvi.node.programs import PACKAGES, NodePrograms, install_programs
from pilvi.node.reference import NodeImage

GUEST_PACKAGES = ("dbus", "e2fsprogs", "initramfs-tools", "linux-image-cloud-amd64", "qemu-guest-agent", "systemd", "systemd-sysv", "udev")
GUEST_FILES = Path(__file__).parent / "guest"
SEED = "seed"
"""Serial number of the disk that holds the machine's files."""
SIZE_BYTES = 16 << 30
_LABEL = "pilvi-node"
_SERVICES = ("containerd", "kubelet", "pilvi-first-boot", "pilvi-seed", "systemd-networkd", "systemd-networkd-wait-online")
# The initrd has to find the disk and nothing else: with all of Debian's modules it takes seconds longer to unpack without KVM.
_SMALL_INITRD = (
    'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/node"; '
    'printf "virtio_pci\\nvirtio_blk\\next4\\n" >>"$1/etc/initramfs-tools/modules"; '
    'chroot "$1" update-initramfs -u -k all'
)
_ENABLE_TIMEOUT_S = 60.0
_MKFS_TIMEOUT_S = 300.0


class Seed(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a node disk a certain machine: the content of its second disk."""

    archive: bytes
    notes: tuple[str, ...] = ()


async def make_node_disk(image: NodeImage, programs: NodePrograms, scratch: Path) -> None:
    """Write disk, kernel and initrd of `image`, whose containerd state is there. `scratch` is a folder to work in, removed at the end.

    Needs root and Debian's package archive; some 40 s. Raises DriverError with the failed command, OSError when the disk refuses.
    """
    try:
        await bootstrap_debian(scratch, (*PACKAGES, *GUEST_PACKAGES), hooks=(_SMALL_INITRD,))
        await asyncio.to_thread(_fill, scratch, programs)
        await run(["chroot", scratch, "/usr/bin/systemctl", "--quiet", "enable", *_SERVICES], timeout_s=_ENABLE_TIMEOUT_S)
        await run(["cp", "-a", f"{image.containerd}/.", scratch / "var/lib/containerd/"], timeout_s=_MKFS_TIMEOUT_S)
        await asyncio.to_thread(_take_kernel, scratch, image)
        with image.disk.open("wb") as file:
            file.truncate(SIZE_BYTES)
        # Written whole now: what the kernel initialises later would be a layer's, in each machine anew.
        options = "lazy_itable_init=0,lazy_journal_init=0"
        argv: list[str | Path] = [
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            _LABEL,
            "-m",
            "0",
            "-N",
            "262144",
            "-E",
            options,
            "-d",
            scratch,
            image.disk,
        ]
        await run(argv, timeout_s=_MKFS_TIMEOUT_S)
        image.disk.chmod(0o444)
    finally:
        remove_tree(scratch)  # blocking, so that cancellation cannot cut it short


def node_seed(facts: NodeFacts, image: NodeImage, mac: str, gateway: IPv4Address) -> Seed:
    """The seed of the machine with these facts, whose card has `mac`. Pure.

    Raises UserError, naming the key, when its bootstrap data cannot be carried out.
    """
    files, notes = node_files(facts, image.pause, Surroundings(machine="qemu", cgroup_version=2, systemd=True))
    network = (
        f"[Match]\nMACAddress={mac}\n\n[Link]\nMTUBytes={facts.mtu}\n\n"
        f"[Network]\nAddress={facts.address}\nGateway={gateway}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    )
    leg = NodeFile(path=PurePosixPath("/etc/systemd/network/10-leg.network"), content=network.encode())
    return Seed(archive=_archive((*files, leg)), notes=notes)


def node_command_line(facts: NodeFacts) -> str:
    """The kernel's command line of that machine: systemd wants its name and id before any disk is read. Pure."""
    return f"root=LABEL={_LABEL} rw console=tty0 console=ttyS0 quiet systemd.machine_id={facts.machine_id} systemd.hostname={facts.name}"


def _fill(root: Path, programs: NodePrograms) -> None:
    install_programs(root, programs)
    shutil.copytree(GUEST_FILES, root, dirs_exist_ok=True)
    # The host's are copied in while packages are installed; a machine's own come with its seed.
    (root / "etc/machine-id").write_bytes(b"")


def _take_kernel(root: Path, image: NodeImage) -> None:
    for pattern, target in (("vmlinuz-*", image.kernel), ("initrd.img-*", image.initrd)):
        (found,) = (root / "boot").glob(pattern)
        shutil.move(found, target)
        target.chmod(0o444)


def _archive(files: Iterable[NodeFile]) -> bytes:
    """A tar archive in whole sectors; the same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            info = tarfile.TarInfo(str(file.path).lstrip("/"))
            info.size, info.mode = len(file.content), file.mode
            tar.addfile(info, io.BytesIO(file.content))
    return buffer.getvalue()
