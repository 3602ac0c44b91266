"""What a built guest consists of, as files that are never written again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# cloud: boots fastest, knows virtio only. generic: takes four seconds more, knows SATA, e1000e, USB and the watchdog too.
Kernel = Literal["cloud", "generic"]

ROOT_PARTITION = "guest-root"
CMDLINE = "console=tty0 console=ttyS0 quiet"
READY = "guest ready"
REFERENCE = "guest:1"


@dataclass(frozen=True, slots=True)
class Guest:
    """The files of a guest in `folder`, readable for everybody.

    The disk boots by BIOS and by UEFI, with secure boot too if it has 512 MiB. A guest takes its address by DHCP or from a seed, starts the
    agent where it has the port `org.qemu.guest_agent.0`, has SSH on port 22 for the users root and debian, and ends on the power button
    (`killall acpid` in it makes it deaf). On ttyS0 it says what happens to it in lines that begin with `guest `, at last `guest ready`, and
    then there is a shell of root.
    """

    folder: Path

    @property
    def raw(self) -> Path:
        """The disk, sparse."""
        return self.folder / "disk.raw"

    @property
    def qcow2(self) -> Path:
        """The same disk, compressed."""
        return self.folder / "disk.qcow2"

    @property
    def kernel(self) -> Path:
        """The kernel, for a direct boot with one of the two initrds and `CMDLINE`."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Finds the guest's disk and goes on there."""
        return self.folder / "initrd"

    @property
    def memory_initrd(self) -> Path:
        """The whole guest: it needs no disk, and forgets everything."""
        return self.folder / "initrd.memory"

    @property
    def container_disk(self) -> Path:
        """OCI image layout with /disk/disk.qcow2, as containerDisk takes it; its reference is `REFERENCE`."""
        return self.folder / "container-disk"

    @property
    def kernel_container(self) -> Path:
        """OCI image layout with /boot/vmlinuz and /boot/initrd (the one of the memory), as kernelBoot takes it; same reference."""
        return self.folder / "kernel-container"
