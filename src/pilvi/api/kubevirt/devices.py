"""Disks, interfaces and the other devices of a virtual machine."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated

from pilvi.api.core import Empty
from pilvi.api.field import Part, accepted, implemented, rejected

__all__ = ["Devices", "Disk", "DiskTarget", "Interface"]

ONLY_BRIDGED = "not implemented yet: the interface is bridged to the subnet"
NOT_WITHOUT = "not implemented yet, and the machine would start without it"


class CustomBlockSize(Part):
    discard_granularity: Annotated[int | None, implemented("Least number of bytes that the guest gives back at once.")] = None
    logical: Annotated[int | None, implemented("Logical block size in bytes.")] = None
    physical: Annotated[int | None, implemented("Physical block size in bytes.")] = None


class Switch(Part):
    """On or off."""

    enabled: Annotated[bool | None, implemented("False takes it away.")] = None


class BlockSize(Part):
    custom: Annotated[CustomBlockSize | None, implemented("Block sizes that the guest sees.")] = None
    match_volume: Annotated[Switch | None, accepted("Block sizes of the volume.", "volumes are files, and have none of their own")] = None


class CdromTarget(Part):
    bus: Annotated[str | None, implemented("Bus of the drive: sata (default), scsi or usb.")] = None
    readonly: Annotated[bool | None, implemented("A cdrom is read only anyway.")] = None
    tray: Annotated[str | None, implemented("open is a drive without a disc at first.")] = None


class DiskTarget(Part):
    bus: Annotated[str | None, implemented("Bus of the disk: virtio, scsi, sata (default) or usb.")] = None
    pci_address: Annotated[
        str | None,
        accepted("Place of the disk on the PCI bus.", "disks on bus virtio are in twelve fixed places, in their order"),
    ] = None
    readonly: Annotated[bool | None, implemented("The guest cannot write to it.")] = None


class LunTarget(Part):
    bus: Annotated[str | None, implemented("scsi.")] = None
    readonly: Annotated[bool | None, implemented("The guest cannot write to it.")] = None
    reservation: Annotated[
        bool | None,
        rejected(
            "Persistent reservations.",
            "volumes are files, on which nobody keeps them",
            "shareable: true on a cluster file system",
            when="self",
        ),
    ] = None


class Disk(Part):
    name: Annotated[str, implemented("Name of the volume behind the disk.")]
    block_size: Annotated[BlockSize | None, implemented("Block sizes of the disk; default those of the host.")] = None
    boot_order: Annotated[int | None, implemented("The machine tries to boot from the disk with the lowest first.")] = None
    cache: Annotated[str | None, implemented("none (default), writethrough or writeback.")] = None
    cdrom: Annotated[CdromTarget | None, implemented("A drive for discs.")] = None
    changed_block_tracking: Annotated[bool | None, accepted("Notes what has changed.", "there are no incremental backups")] = None
    dedicated_io_thread: Annotated[bool | None, implemented("A thread of the host for this disk alone.")] = None
    disk: Annotated[DiskTarget | None, implemented("A plain disk.")] = None
    error_policy: Annotated[
        str | None, implemented("What an error of the host does: stop (default) pauses the guest, report, ignore, or enospace.")
    ] = None
    io: Annotated[str | None, implemented("native, threads or default.")] = None
    lun: Annotated[LunTarget | None, implemented("A disk that takes SCSI commands, which QEMU answers.")] = None
    serial: Annotated[str | None, implemented("Serial number that the guest sees.")] = None
    shareable: Annotated[bool | None, implemented("Others may write to it at the same time.")] = None
    tag: Annotated[str | None, accepted("Word for the guest about the disk.", "the metadata of cloud-init have no devices")] = None


class Filesystem(Part):
    name: str
    virtiofs: Empty


class GpuDisplay(Part):
    enabled: bool | None = None
    ram_fb: Switch | None = None


class GpuOptions(Part):
    display: GpuDisplay | None = None


class Gpu(Part):
    name: str
    claim_name: str | None = None
    device_name: str | None = None
    request_name: str | None = None
    tag: str | None = None
    virtual_gpu_options: GpuOptions | None = None


class HostDevice(Part):
    name: str
    claim_name: str | None = None
    device_name: str | None = None
    request_name: str | None = None
    tag: str | None = None


class Input(Part):
    name: Annotated[str, implemented("Name of the device.")]
    type: Annotated[str, implemented("tablet.")]
    bus: Annotated[str | None, implemented("usb (default) or virtio.")] = None


class InterfaceBinding(Part):
    name: str


class DhcpOption(Part):
    option: Annotated[int, implemented("Number of the option, 224 to 254.")]
    value: Annotated[str, implemented("What it says, as text.")]


class DhcpOptions(Part):
    boot_file_name: Annotated[str | None, implemented("Option 67.")] = None
    ntp_servers: Annotated[list[str], implemented("IPv4 addresses, in place of those of the Subnet.")] = []
    private_options: Annotated[list[DhcpOption], implemented("Options of your own.")] = []
    tftp_server_name: Annotated[str | None, implemented("Option 66, and when it is an IPv4 address the next server too.")] = None


class PortRange(Part):
    end: Annotated[int, implemented("The last port.")]
    protocol: Annotated[str, implemented("TCP or UDP.")]
    start: Annotated[int, implemented("The first port.")]


class Port(Part):
    port: Annotated[int, implemented("Number of the port.")]
    name: Annotated[str | None, implemented("A name for people.")] = None
    protocol: Annotated[str | None, implemented("TCP (default) or UDP.")] = None


class Interface(Part):
    name: Annotated[str, implemented("Name of the network that the interface joins.")]
    acpi_index: Annotated[int | None, implemented("Number by which firmware names the card: eno1 in Linux.")] = None
    binding: Annotated[InterfaceBinding | None, accepted("Network binding plug-in.", ONLY_BRIDGED)] = None
    boot_order: Annotated[int | None, implemented("The machine tries to boot from the lowest first.")] = None
    bridge: Annotated[Empty | None, implemented("The machine holds its address of the subnet itself.")] = None
    dhcp_options: Annotated[DhcpOptions | None, implemented("What DHCP tells the machine on this interface, beside its address.")] = None
    mac_address: Annotated[
        str | None, implemented("MAC of the interface; default that of ovn.kubernetes.io/mac_address, else one of its own.")
    ] = None
    macvtap: Annotated[Empty | None, accepted("Attachment by macvtap.", ONLY_BRIDGED)] = None
    masquerade: Annotated[
        Empty | None, implemented("As bridge: the machine holds its address of the subnet itself, without a second NAT.")
    ] = None
    model: Annotated[str | None, implemented("Model of the card: virtio (default), e1000, e1000e, ne2k_pci, pcnet or rtl8139.")] = None
    passt: Annotated[Empty | None, accepted("Attachment by passt.", ONLY_BRIDGED)] = None
    passt_binding: Annotated[Empty | None, accepted("Attachment by passt.", ONLY_BRIDGED)] = None
    pci_address: Annotated[
        str | None,
        rejected(
            "Place of the card on the PCI bus.",
            "the first card is in the first of four fixed places, the second in the next, whatever else the machine has",
            "acpiIndex for a name that stays, or macAddress",
        ),
    ] = None
    port_ranges: Annotated[list[PortRange], implemented("Ranges of ports to let in, as ports.")] = []
    ports: Annotated[
        list[Port], implemented("Ports to let in with masquerade: these and answers; default, and with bridge, is everything.")
    ] = []
    slirp: Annotated[Empty | None, accepted("Attachment by slirp.", ONLY_BRIDGED)] = None
    sriov: Annotated[
        Empty | None,
        rejected("A function of a physical card.", NOT_WITHOUT, "bridge: {} for an interface in the subnet"),
    ] = None
    state: Annotated[
        str | None, implemented("up (default); down: the cable is pulled; absent: the card of a running machine is unplugged.")
    ] = None
    tag: Annotated[str | None, accepted("Word for the guest about the card.", "the metadata of cloud-init have no devices")] = None


class PanicDevice(Part):
    model: Annotated[str | None, implemented("isa (default), pvpanic or hyperv.")] = None


class Sound(Part):
    name: Annotated[str, implemented("Name of the device.")]
    model: Annotated[str | None, implemented("ich9 (default) or ac97.")] = None


class Tpm(Part):
    enabled: Annotated[bool | None, implemented("False takes it away.")] = None
    persistent: Annotated[bool | None, implemented("Its secrets outlive the instance and go with its VirtualMachine.")] = None


class Video(Part):
    type: Annotated[str | None, implemented("Model of the screen's card: vga (default), virtio, bochs, cirrus or ramfb.")] = None


class WatchdogDevice(Part):
    action: Annotated[str | None, implemented("reset (default), shutdown or poweroff.")] = None


class Watchdog(Part):
    name: Annotated[str, implemented("Name of the device.")]
    diag288: Annotated[WatchdogDevice | None, rejected("A watchdog of s390x.", "machines are x86", "i6300esb")] = None
    i6300esb: Annotated[WatchdogDevice | None, implemented("A watchdog on the PCI bus.")] = None


class Devices(Part):
    autoattach_graphics_device: Annotated[bool | None, implemented("Attaches a screen; on unless it says false.")] = None
    autoattach_input_device: Annotated[bool | None, implemented("Attaches a tablet when no input is named.")] = None
    autoattach_mem_balloon: Annotated[bool | None, implemented("Attaches a memory balloon; on unless it says false.")] = None
    autoattach_pod_interface: Annotated[
        bool | None,
        implemented("Attaches an interface in the pod network when none is named; on unless it says false."),
    ] = None
    autoattach_serial_console: Annotated[bool | None, implemented("Attaches a serial console; on unless it says false.")] = None
    autoattach_vsock: Annotated[bool | None, accepted("Attaches a vsock.", "machines have none; use their address", when="self")] = None
    block_multi_queue: Annotated[bool | None, implemented("Disks on bus virtio have a queue for each vCPU anyway.")] = None
    client_passthrough: Annotated[Empty | None, accepted("USB devices of a viewer.", "virtctl usbredir is refused")] = None
    disable_hotplug: Annotated[
        bool | None, accepted("Takes the places of further devices away.", "every machine has the same places", when="self")
    ] = None
    disks: Annotated[list[Disk], implemented("How volumes appear in the machine; a volume without a disk gets one.", max_items=256)] = []
    downward_metrics: Annotated[
        Empty | None, rejected("Figures of the host.", "what the host does is not for guests", "a downwardAPI volume")
    ] = None
    filesystems: Annotated[
        list[Filesystem],
        rejected("Folders shared by virtiofs.", "a machine sees disks only", "disks, with the same volumes; they are mounted in the guest"),
    ] = []
    gpus: Annotated[list[Gpu], rejected("Graphics processors.", NOT_WITHOUT, "a machine without gpus")] = []
    host_devices: Annotated[list[HostDevice], rejected("Devices of the host.", NOT_WITHOUT, "a machine without hostDevices")] = []
    inputs: Annotated[list[Input], implemented("Tablets, which point to where the mouse of a viewer is.")] = []
    interfaces: Annotated[list[Interface], implemented("Network interfaces; default one that joins the subnet.", max_items=256)] = []
    log_serial_console: Annotated[bool | None, accepted("Keeps what the guest prints.", "it is always kept", when="!self")] = None
    network_interface_multiqueue: Annotated[
        bool | None, accepted("Gives each card a queue for each vCPU.", "a card has one queue", when="self")
    ] = None
    panic_devices: Annotated[list[PanicDevice], implemented("By which the guest says that its kernel has crashed; it then Failed.")] = []
    rng: Annotated[Empty | None, implemented("A source of random numbers.")] = None
    sound: Annotated[Sound | None, implemented("A sound card, which plays to nobody.")] = None
    tpm: Annotated[Tpm | None, implemented("A TPM 2.0; its secrets go with the instance unless it is persistent.")] = None
    use_virtio_transitional: Annotated[
        bool | None, accepted("Devices for guests older than virtio 1.0.", "all devices are of virtio 1.0", when="self")
    ] = None
    video: Annotated[Video | None, implemented("The screen's card.")] = None
    watchdog: Annotated[Watchdog | None, implemented("Acts when the guest has stopped to feed it.")] = None
