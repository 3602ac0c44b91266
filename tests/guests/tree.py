"""The guest's file trees: what is taken from the unpacked packages, beside our own files in `root/` and `initrd/`."""

import gzip
import shutil
from pathlib import Path

from tests.guests.run import run, run_in

_HERE = Path(__file__).parent
_PROGRAMS = ("qemu-ga", "dropbear", "dropbearkey", "dbclient", "mke2fs", "resize2fs")
_LOADER = "/lib64/ld-linux-x86-64.so.2"
# What the root disk may hang on, and the file system on it. Names that a kernel lacks or has built in are left out.
_BOOT_MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ahci", "nvme", "ext4", "crc32c_generic")
_MODULES = (
    *_BOOT_MODULES,
    *("virtio_net", "virtio_console", "virtio_balloon", "virtio_mem", "virtio_rng", "virtio_input", "virtio_gpu", "virtiofs"),
    *("vmw_vsock_virtio_transport", "9pnet_virtio", "9p", "e1000", "e1000e", "rtl8139", "8139cp", "vmxnet3"),
    *("sr_mod", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859_1", "overlay", "loop", "xfs", "btrfs"),
    *("button", "evdev", "i6300esb", "pvpanic", "pvpanic_pci", "pvpanic_mmio", "qemu_fw_cfg", "efivarfs"),
    *("xhci_pci", "usb_storage", "usbhid", "hid_generic", "psmouse", "ata_piix"),
)


def make_root(debian: Path, root: Path) -> None:
    """The guest's own root, below `debian`, whose programs are used for it."""
    _make_folders(root, "etc", "home/debian", "root", "run", "tmp", "mnt", "var/lib", "var/log", "usr/share/udhcpc")
    _take_busybox(debian, root)
    for name in _PROGRAMS:
        _take_program(debian, root, name)
    (root / "usr/bin/mkfs.ext4").symlink_to("mke2fs")  # under its own name busybox's would be run
    _take_modules(debian, root, _MODULES)
    shutil.copytree(_HERE / "root", root, copy_function=_replace, dirs_exist_ok=True)
    (root / "var/run").symlink_to("../run")
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    (root / "init").symlink_to("usr/bin/init")  # where the kernel looks in an initrd
    (root / "etc/shadow").chmod(0o600)
    (root / "root").chmod(0o700)
    shutil.chown(root / "home/debian", 1000, 1000)


def make_initrd(debian: Path, root: Path) -> None:
    """The tree that only finds the root disk, below `debian`."""
    _make_folders(root, "root")
    _take_busybox(debian, root)
    _take_modules(debian, root, _BOOT_MODULES)
    shutil.copytree(_HERE / "initrd", root, copy_function=_replace, dirs_exist_ok=True)


def pack(root: Path, archive: Path) -> None:
    """Make the tree an initrd."""
    cpio = archive.with_suffix(".cpio")
    run("sh", "-euc", 'cd "$1" && find . | LC_ALL=C sort | usr/bin/busybox cpio -o -H newc >"$2" 2>/dev/null', "sh", root, cpio)
    with cpio.open("rb") as source, gzip.GzipFile(archive, "wb", compresslevel=6, mtime=0) as target:
        shutil.copyfileobj(source, target)
    cpio.unlink()


def _make_folders(root: Path, *names: str) -> None:
    for name in ("dev", "proc", "sys", "usr/bin", "usr/lib", "usr/lib64", *names):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64", "bin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "sbin").symlink_to("usr/bin")
    (root / "usr/sbin").symlink_to("bin")


def _replace(source: str, target: str) -> None:
    """Copy a file or link; what stands there may be a link to busybox, which is not to be written through."""
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _take_busybox(debian: Path, root: Path) -> None:
    shutil.copy2(debian / "bin/busybox", root / "usr/bin/busybox")
    for applet in run_in(debian, "busybox", "--list").split():
        if applet != "busybox":
            (root / "usr/bin" / applet).symlink_to("busybox")


def _take_program(debian: Path, root: Path, name: str) -> None:
    """The program in the place of busybox's of that name, with the libraries it is linked to."""
    found = next(path for folder in ("usr/sbin", "usr/bin", "sbin", "bin") if (path := debian / folder / name).exists())
    target = root / "usr/bin" / name
    target.unlink(missing_ok=True)
    shutil.copy2(found, target)
    for line in run_in(debian, _LOADER, "--list", found).splitlines():
        library = next((word for word in line.split() if word.startswith("/")), None)
        if library is not None:
            placed = root / library.lstrip("/")
            placed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(debian / library.lstrip("/"), placed)


def _take_modules(debian: Path, root: Path, names: tuple[str, ...]) -> None:
    version = next(debian.glob("lib/modules/*")).name
    modules = debian / "lib/modules" / version
    run_in(debian, "depmod", version)
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    by_name = {Path(path).stem.replace("-", "_"): path for path in needs}
    wanted = [by_name[name] for name in names if name in by_name]
    # An alias such as crypto-crc32c is asked for by the kernel itself, so what a module depends on softly comes by name above.
    for path in {path for first in wanted for path in (first, *needs[first].split())}:
        target = root / "lib/modules" / version / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(modules / path, target)
    for listed in ("modules.builtin", "modules.order"):
        shutil.copy2(modules / listed, root / "lib/modules" / version / listed)
    run("chroot", root, "/usr/bin/depmod", version)
