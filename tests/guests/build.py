"""Builds the guest once for all tests on this machine.

Everything comes from Debian packages, unpacked and not installed, also the programs that put the disk together: they run in the unpacked
tree. So the machine needs mmdebstrap, mke2fs and qemu-img only. Fifteen seconds and 130 MB for each kernel; needs root.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from pilvi.kit.store import DEFAULT_ROOT
from pilvi.node.debian import debian_sources
from tests.guests.containers import write_layout
from tests.guests.disk import write_disk
from tests.guests.guest import Guest, Kernel
from tests.guests.run import run
from tests.guests.tree import make_initrd, make_root, pack

SUITE = "bookworm"
PACKAGES = (
    "busybox-static",
    "dosfstools",
    "dropbear-bin",
    "e2fsprogs",
    "fdisk",
    "grub-efi-amd64-signed",
    "kmod",
    "libc-bin",
    "mtools",
    "qemu-guest-agent",
    "shim-signed",
    "syslinux",
    "syslinux-common",
)
KERNELS: dict[Kernel, str] = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
_HERE = Path(__file__).parent


def guest_image(kernel: Kernel = "cloud") -> Guest:
    """The guest with that kernel, built now if it is not there. Safe to interrupt and to call from several processes.

    Raises CalledProcessError when a step fails, with what it said in the notes.
    """
    cache = Path(os.environ.get("PILVI_CACHE") or DEFAULT_ROOT)
    folder = cache / f"test-guests-{kernel}-{_digest()}"
    if folder.exists():
        return Guest(folder)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".test-guests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():  # somebody else may have built it meanwhile
            with tempfile.TemporaryDirectory(dir=cache, prefix=".test-guests-") as scratch:
                _build(Path(scratch), kernel).rename(folder)
    return Guest(folder)


def _digest() -> str:
    """Over everything here that the result depends on; Debian's updates are taken when something here changes."""
    state = hashlib.sha256(SUITE.encode())
    for path in sorted(_HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            state.update(f"\0{path.relative_to(_HERE)}\0{path.stat().st_mode & 0o111:o}\0".encode() + path.read_bytes())
    return state.hexdigest()[:12]


def _build(scratch: Path, kernel: Kernel) -> Path:
    debian = scratch / "debian"
    _unpack(debian, [*PACKAGES, KERNELS[kernel]])
    made = Guest(scratch / "made")
    made.folder.mkdir(mode=0o755)
    shutil.copyfile(next(debian.glob("boot/vmlinuz-*")), made.kernel)
    root, initrd = debian / "guest", debian / "initrd"
    make_initrd(debian, initrd)
    pack(initrd, made.initrd)
    make_root(debian, root)
    pack(root, made.memory_initrd)
    write_disk(debian, root, made)
    run("qemu-img", "convert", "-c", "-O", "qcow2", made.raw, made.qcow2)
    write_layout(made.container_disk, {"disk/disk.qcow2": made.qcow2})
    write_layout(made.kernel_container, {"boot/vmlinuz": made.kernel, "boot/initrd": made.memory_initrd})
    for path in made.folder.iterdir():
        path.chmod(0o755 if path.is_dir() else 0o444)
    return made.folder


def _unpack(target: Path, packages: list[str]) -> None:
    proxies = {name: value for name, value in os.environ.items() if name.lower() in {"http_proxy", "https_proxy", "no_proxy"}}
    run(
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=directory", f"--include={','.join(packages)}"),
        *(SUITE, target, *debian_sources(SUITE)),
        env=proxies,
    )
    (target / "proc").mkdir(exist_ok=True)
    (target / "bin/sh").symlink_to("busybox")  # SYSLINUX calls mtools through a shell
