"""The disk: GPT with the EFI system partition and the root.

Both boot loaders read the same kernel and initrd from the EFI system partition: SYSLINUX for BIOS, which needs two seconds less than GRUB
without hardware virtualisation, and for UEFI Debian's signed chain, so that the disk also boots where secure boot is enforced.
"""

import shutil
from pathlib import Path

from tests.guests.guest import CMDLINE, ROOT_PARTITION, Guest
from tests.guests.run import run, run_in

_SECTOR = 512
_MIB = 1 << 20
_ESP_START, _ROOT_START = 1 * _MIB, 33 * _MIB
_ROOT_SIZE = 158 * _MIB
SIZE = 192 * _MIB

_TABLE = f"""label: gpt
start={_ESP_START // _SECTOR}, size={(_ROOT_START - _ESP_START) // _SECTOR}, name=guest-boot, type=U, attrs=LegacyBIOSBootable
start={_ROOT_START // _SECTOR}, size={_ROOT_SIZE // _SECTOR}, name={ROOT_PARTITION}, type=L
"""
_GRUB = f"linux /vmlinuz {CMDLINE}\ninitrd /initrd\nboot\n"
_SYSLINUX = f"DEFAULT guest\nPROMPT 0\nLABEL guest\nLINUX /vmlinuz\nINITRD /initrd\nAPPEND {CMDLINE}\n"
_BOOT_CODE_SIZE = 440  # of the first sector, whose rest is the partition table's


def write_disk(debian: Path, root: Path, guest: Guest) -> None:
    """Write `guest.raw` from the tree `root`, the kernel and the initrd. `debian` is the tree whose programs are used."""
    disk = debian / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(SIZE)
    run_in(debian, "sfdisk", "--quiet", disk, input=_TABLE.encode())
    _write_root(root, disk)
    _write_esp(debian, guest, disk)
    run("cp", "--sparse=always", disk, guest.raw)


def _write_root(root: Path, disk: Path) -> None:
    options = f"offset={_ROOT_START},lazy_itable_init=0,lazy_journal_init=0"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_PARTITION, "-E", options, "-d", root, disk, f"{_ROOT_SIZE // 1024}k")


def _write_esp(debian: Path, guest: Guest, disk: Path) -> None:
    """FAT, filled by mtools, which need no mount, in large clusters, which firmware reads faster."""
    stage = debian / "esp"
    texts = {"syslinux.cfg": _SYSLINUX, "EFI/debian/grub.cfg": _GRUB}
    files = {
        "vmlinuz": guest.kernel,
        "initrd": guest.initrd,
        "EFI/BOOT/BOOTX64.EFI": debian / "usr/lib/shim/shimx64.efi.signed",
        "EFI/BOOT/grubx64.efi": debian / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    }
    for name in (*texts, *files):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        shutil.copyfile(source, stage / name)
    for name, text in texts.items():
        (stage / name).write_text(text)
    esp = debian / "esp.img"
    with esp.open("wb") as file:
        file.truncate(_ROOT_START - _ESP_START)
    run_in(debian, "mkfs.vfat", "-F", "12", "-s", "64", "-n", "GUEST-BOOT", esp)
    run_in(debian, "mcopy", "-s", "-i", esp, *sorted(stage.iterdir()), "::/")
    run_in(debian, "syslinux", "--install", esp)
    with disk.open("r+b") as file:
        file.write((debian / "usr/lib/syslinux/mbr/gptmbr.bin").read_bytes()[:_BOOT_CODE_SIZE])
        file.seek(_ESP_START)
        file.write(esp.read_bytes())
