"""One virtual machine as QEMU shall run it, as data. What the hardware means to a guest is said here; how QEMU is told is `argv`'s.

Every field has the value that a machine gets when nobody asks for anything. QEMU opens none of the paths: the unit is handed descriptors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from pilvi.host.units import OpenTap

__all__ = [
    "Bios",
    "Cpu",
    "DirectKernel",
    "Drive",
    "Layer",
    "Memory",
    "Nic",
    "QemuSpec",
    "Sockets",
    "Timers",
    "Uefi",
    "Watchdog",
]

Bus = Literal["virtio", "scsi", "sata", "usb"]


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """`model` is `host` (under TCG: all that it can do), `max`, or one that QEMU names. `features` maps a flag to whether it is there.

    The guest has sockets x cores x threads vCPUs; sockets up to `max_sockets` can be added while it runs. `plugged_sockets`
    more are there as if they had been: for a process that takes over a guest to which they came.
    """

    model: str = "host"
    features: dict[str, bool] = {}
    sockets: int = 1
    plugged_sockets: int = 0
    cores: int = 1
    threads: int = 1
    max_sockets: int = 1

    @property
    def most_vcpus(self) -> int:
        """VCPUs that the guest has when all sockets have come that can."""
        return max(self.max_sockets, self.sockets) * self.cores * self.threads


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """`size_bytes` is a whole number of MiB. `max_bytes` above it leaves room for memory that comes while the guest runs, in 2 MiB blocks.

    `hugepage_bytes` takes it from the host's huge pages of that size, which must be free. `shared` lets another process of the
    host map it (virtiofs); memory that is not shared may get transparent huge pages.
    """

    size_bytes: int
    max_bytes: int = 0
    hugepage_bytes: int | None = None
    shared: bool = False


class Bios(msgspec.Struct, frozen=True, kw_only=True, tag="bios"):
    """SeaBIOS. `serial` has it print to the serial console too."""

    serial: bool = False


class Uefi(msgspec.Struct, frozen=True, kw_only=True, tag="uefi"):
    """OVMF: `code` is read only and shared, `variables` the machine's own file. Secure boot needs the code that was built for it."""

    code: Path
    variables: Path
    secure_boot: bool = False


class DirectKernel(msgspec.Struct, frozen=True, kw_only=True):
    """A Linux kernel that starts without a boot loader. The user of the process must have the right to read both files."""

    kernel: Path
    initrd: Path | None = None
    arguments: str = ""


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a drive, or with `device` a block device.

    `format` is forced: a raw disk may hold anything, also what looks like another format.
    """

    path: Path
    format: Literal["raw", "qcow2"] = "raw"
    device: bool = False


class Drive(msgspec.Struct, frozen=True, kw_only=True):
    """A disk as the guest sees it.

    `name` is unique in its machine and stays the same over restarts. `layers` are the files, the one that is written first, then what it
    lies over. `cache` as in KubeVirt: `none` goes past the host's page cache, which the file system must be able to. `io` `native`
    needs that. `on_error` `stop` pauses the guest at an error of the host, `report` tells it, `enospc` pauses when the host's disk is
    full and tells it of other errors. `boot_index` 1 is tried first; when no device of a machine has one, its drives are tried in their
    order. `block_sizes` are the logical and physical block size, `discard_granularity` is the least that is given back at once. A cdrom
    without layers is empty, with `tray_open` also open.
    `port` is where a virtio disk is plugged in (see `ports`); None takes the first free one.
    """

    name: str
    layers: tuple[Layer, ...]
    bus: Bus = "virtio"
    kind: Literal["disk", "cdrom", "lun"] = "disk"
    read_only: bool = False
    shareable: bool = False
    serial: str = ""
    boot_index: int | None = None
    cache: Literal["none", "writethrough", "writeback"] = "none"
    io: Literal["native", "threads"] | None = None
    discard: bool = True
    on_error: Literal["stop", "report", "ignore", "enospc"] = "stop"
    block_sizes: tuple[int, int] | None = None
    discard_granularity: int | None = None
    tray_open: bool = False
    iothread: bool = False
    port: int | None = None


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A network card on a tap device. `model` as in KubeVirt.

    `up` False says that its plug is pulled: QEMU has no word for that at its start, so who starts the machine calls
    `Monitor.set_link`. `acpi_index` is a number by which firmware tells the guest which card it is. `vhost` has the host's kernel move the
    packets, which needs /dev/vhost-net. `port` as in Drive.
    """

    name: str
    tap: OpenTap
    mac: str
    model: Literal["virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139"] = "virtio"
    mtu: int = 1500
    boot_index: int | None = None
    acpi_index: int | None = None
    up: bool = True
    vhost: bool = False
    port: int | None = None


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    """The clocks of a guest, each None as QEMU has it. `rtc` and `pit` say what becomes of ticks that the guest has missed."""

    hpet: bool | None = None
    kvm: bool | None = None
    hyperv: bool | None = None
    rtc: Literal["delay", "catchup"] | None = None
    pit: Literal["delay", "discard"] | None = None


class Watchdog(msgspec.Struct, frozen=True, kw_only=True):
    """An i6300esb; `action` when the guest does not feed it."""

    action: Literal["reset", "shutdown", "poweroff"] = "reset"


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """Where QEMU listens, all in one folder of the machine's uid."""

    folder: Path

    @property
    def monitor(self) -> Path:
        """QMP."""
        return self.folder / "qmp.sock"

    @property
    def serial(self) -> Path:
        """The first serial line, raw."""
        return self.folder / "serial.sock"

    @property
    def screen(self) -> Path:
        """VNC (RFB)."""
        return self.folder / "vnc.sock"

    @property
    def agent(self) -> Path:
        """The guest agent's channel."""
        return self.folder / "agent.sock"

    @property
    def tpm(self) -> Path:
        """Where its TPM (another process) listens."""
        return self.folder / "tpm.sock"


class QemuSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A machine.

    `name` is the unit's, `title` what the guest is called for people. `machine` is a concrete type such as `pc-q35-7.2`. `user` is the host
    uid of the process, `group` its gid when that is another one (that of /dev/kvm), `netns` the namespace that it sits in, which needs no
    links. `serial_log` gets all that the guest writes to its serial console, whether anybody listens or not. `cpu_milli` limits processor
    time. The guest's clock shows UTC plus `clock_offset_s`, or the time of `timezone` (`Europe/Helsinki`). `tpm` is the socket of its TPM.
    `panic` is a device by which a guest tells that its kernel has crashed. `hyperv` are enlightenments in QEMU's words (`relaxed`,
    `spinlocks`). `smbios` are strings by table (`bios`, `system`, `board`, `chassis`) in QEMU's words. `firmware_config` are files
    that the guest finds by name (`opt/...`) in its firmware's configuration; `user` must have the right to read them. `reboot` `exit` ends
    the machine when the guest asks for a reset. `paused` starts it without a first instruction. `incoming` waits for a migration.
    """

    name: str
    title: str
    uuid: str
    user: int
    group: int | None = None
    netns: str
    sockets: Sockets
    log: Path
    serial_log: Path
    memory: Memory
    machine: str
    accelerator: Literal["kvm", "tcg"] = "tcg"
    cpu: Cpu = Cpu()
    firmware: Bios | Uefi = Bios()
    kernel: DirectKernel | None = None
    drives: tuple[Drive, ...] = ()
    nics: tuple[Nic, ...] = ()
    tpm: Path | None = None
    serial: bool = True
    screen: bool = True
    video: Literal["vga", "virtio", "bochs", "cirrus", "ramfb"] = "vga"
    agent: bool = True
    balloon: bool = True
    rng: bool = False
    watchdog: Watchdog | None = None
    tablets: tuple[Literal["usb", "virtio"], ...] = ()
    sound: Literal["ich9", "ac97"] | None = None
    acpi: bool = True
    hyperv: dict[str, bool | int | str] = {}
    hide_hypervisor: bool = False
    smbios: dict[str, dict[str, str]] = {}
    firmware_config: dict[str, Path] = {}
    panic: Literal["isa", "pci"] | None = None
    clock_offset_s: int = 0
    timezone: str | None = None
    timers: Timers = Timers()
    reboot: Literal["reset", "exit"] = "reset"
    paused: bool = False
    incoming: bool = False
    cpu_milli: int | None = None
    stop_grace_s: float = 30.0
