"""The disk: GPT with three partitions, of which GRUB for BIOS, the EFI system partition and the root each have one.

Both boot loaders read the same kernel and initrd from the EFI system partition and have the same few lines of configuration. The one of UEFI is
Debian's signed chain, so the disk also boots where secure boot is enforced.
"""

import shutil
import struct
from pathlib import Path

from tests.guests.guest import CMDLINE, ROOT_PARTITION, Guest
from tests.guests.run import run, run_in

_SECTOR = 512
_MIB = 1 << 20
_BIOS_START, _ESP_START, _ROOT_START = 1 * _MIB, 2 * _MIB, 34 * _MIB
_ROOT_SIZE = 157 * _MIB
SIZE = 192 * _MIB

_TABLE = f"""label: gpt
start={_BIOS_START // _SECTOR}, size={(_ESP_START - _BIOS_START) // _SECTOR}, name=guest-bios, type=21686148-6449-6E6F-744E-656564454649
start={_ESP_START // _SECTOR}, size={(_ROOT_START - _ESP_START) // _SECTOR}, name=guest-boot, type=U
start={_ROOT_START // _SECTOR}, size={_ROOT_SIZE // _SECTOR}, name={ROOT_PARTITION}, type=L
"""
_GRUB = f"linux /vmlinuz {CMDLINE}\ninitrd /initrd\nboot\n"
_GRUB_MODULES = ("biosdisk", "part_gpt", "fat", "linux")


def write_disk(debian: Path, root: Path, guest: Guest) -> None:
    """Write `guest.raw` from the tree `root`, the kernel and the initrd. `debian` is the tree whose programs are used."""
    disk = debian / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    run_in(debian, "sfdisk", "--quiet", disk, input=_TABLE.encode())
    _write_root(root, disk)
    _write_esp(debian, guest, disk)
    _write_bios_loader(debian, disk)
    run("cp", "--sparse=always", disk, guest.raw)


def _write_root(root: Path, disk: Path) -> None:
    options = f"offset={_ROOT_START},lazy_itable_init=0,lazy_journal_init=0"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_PARTITION, "-E", options, "-d", root, disk, f"{_ROOT_SIZE // 1024}k")


def _write_esp(debian: Path, guest: Guest, disk: Path) -> None:
    """FAT, filled by mtools, which need no mount."""
    files = {
        "vmlinuz": guest.kernel,
        "initrd": guest.initrd,
        "EFI/BOOT/BOOTX64.EFI": debian / "usr/lib/shim/shimx64.efi.signed",
        "EFI/BOOT/grubx64.efi": debian / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    }
    stage = debian / "esp"
    for name, source in files.items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, stage / name)
    (stage / "EFI/debian").mkdir()
    (stage / "EFI/debian/grub.cfg").write_text(_GRUB)
    esp = debian / "esp.img"
    with esp.open("wb") as file:
        file.truncate(_ROOT_START - _ESP_START)
    run_in(debian, "mkfs.vfat", "-F", "16", "-n", "GUEST-BOOT", esp)
    run_in(debian, "mcopy", "-s", "-i", esp, *sorted(stage.iterdir()), "::/")
    with disk.open("r+b") as file:
        file.seek(_ESP_START)
        file.write(esp.read_bytes())


def _write_bios_loader(debian: Path, disk: Path) -> None:
    """What grub-bios-setup does, which only works on real disks: GRUB's manual, "BIOS installation"; the offsets are boot.S's and diskboot.S's."""
    (debian / "grub.cfg").write_text(_GRUB)
    core = debian / "core.img"
    run_in(debian, *("grub-mkimage", "-O", "i386-pc", "-p", "(,gpt2)/", "-c", debian / "grub.cfg", "-o", core), *_GRUB_MODULES)
    first = _BIOS_START // _SECTOR
    boot = bytearray((debian / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    struct.pack_into("<Q", boot, 0x5C, first)
    loader = bytearray(core.read_bytes())
    struct.pack_into("<Q", loader, 0x1F4, first + 1)  # where the rest of the loader lies; its length grub-mkimage has put in
    with disk.open("r+b") as file:
        file.write(boot[:440])  # the partition table's part of the sector stays
        file.seek(_BIOS_START)
        file.write(loader)
