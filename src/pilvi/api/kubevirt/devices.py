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
    discard_granularity: int | None = None
    logical: int | None = None
    physical: int | None = None


class Switch(Part):
    """On or off."""

    enabled: bool | None = None


class BlockSize(Part):
    custom: CustomBlockSize | None = None
    match_volume: Switch | None = None


class CdromTarget(Part):
    bus: str | None = None
    readonly: bool | None = None
    tray: str | None = None


class DiskTarget(Part):
    bus: Annotated[str | None, accepted("Bus of the disk.", "not implemented yet: it becomes a virtio disk", when="self != 'virtio'")] = (
        None
    )
    pci_address: str | None = None
    readonly: bool | None = None


class LunTarget(Part):
    bus: str | None = None
    readonly: bool | None = None
    reservation: bool | None = None


class Disk(Part):
    name: Annotated[str, implemented("Name of the volume behind the disk.")]
    block_size: BlockSize | None = None
    boot_order: Annotated[int | None, implemented("The machine boots from the container disk whose disk has the lowest.")] = None
    cache: str | None = None
    cdrom: CdromTarget | None = None
    changed_block_tracking: bool | None = None
    dedicated_io_thread: bool | None = None
    disk: Annotated[DiskTarget | None, implemented("A plain disk.")] = None
    error_policy: str | None = None
    io: str | None = None
    lun: LunTarget | None = None
    serial: str | None = None
    shareable: bool | None = None
    tag: str | None = None


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
    name: str
    type: str
    bus: str | None = None


class InterfaceBinding(Part):
    name: str


class DhcpOption(Part):
    option: int
    value: str


class DhcpOptions(Part):
    boot_file_name: str | None = None
    ntp_servers: list[str] = []
    private_options: list[DhcpOption] = []
    tftp_server_name: str | None = None


class PortRange(Part):
    end: int
    protocol: str
    start: int


class Port(Part):
    port: int
    name: str | None = None
    protocol: str | None = None


class Interface(Part):
    name: Annotated[str, implemented("Name of the network that the interface joins.")]
    acpi_index: int | None = None
    binding: Annotated[InterfaceBinding | None, accepted("Network binding plug-in.", ONLY_BRIDGED)] = None
    boot_order: int | None = None
    bridge: Annotated[Empty | None, implemented("The machine holds its address of the subnet itself.")] = None
    dhcp_options: DhcpOptions | None = None
    mac_address: Annotated[
        str | None,
        accepted("MAC of the interface.", "not implemented yet; the annotation ovn.kubernetes.io/mac_address asks for one"),
    ] = None
    macvtap: Annotated[Empty | None, accepted("Attachment by macvtap.", ONLY_BRIDGED)] = None
    masquerade: Annotated[
        Empty | None, implemented("As bridge: the machine holds its address of the subnet itself, without a second NAT.")
    ] = None
    model: Annotated[str | None, accepted("Model of the card.", "every card is virtio", when="self != '' && self != 'virtio'")] = None
    passt: Annotated[Empty | None, accepted("Attachment by passt.", ONLY_BRIDGED)] = None
    passt_binding: Annotated[Empty | None, accepted("Attachment by passt.", ONLY_BRIDGED)] = None
    pci_address: str | None = None
    port_ranges: list[PortRange] = []
    ports: Annotated[list[Port], accepted("Ports to let in.", "not implemented yet: every port is let in")] = []
    slirp: Annotated[Empty | None, accepted("Attachment by slirp.", ONLY_BRIDGED)] = None
    sriov: Annotated[
        Empty | None,
        rejected("A function of a physical card.", NOT_WITHOUT, "bridge: {} for an interface in the subnet"),
    ] = None
    state: Annotated[str | None, accepted("Link state.", "not implemented yet: the link is up", when="self != '' && self != 'up'")] = None
    tag: str | None = None


class PanicDevice(Part):
    model: str | None = None


class Sound(Part):
    name: str
    model: str | None = None


class Tpm(Part):
    enabled: bool | None = None
    persistent: bool | None = None


class Video(Part):
    type: str | None = None


class WatchdogDevice(Part):
    action: str | None = None


class Watchdog(Part):
    name: str
    diag288: WatchdogDevice | None = None
    i6300esb: WatchdogDevice | None = None


class Devices(Part):
    autoattach_graphics_device: Annotated[bool | None, accepted("Attaches a screen.", when="self")] = None
    autoattach_input_device: Annotated[bool | None, accepted("Attaches a tablet.", when="self")] = None
    autoattach_mem_balloon: Annotated[bool | None, accepted("Attaches a memory balloon.", when="self")] = None
    autoattach_pod_interface: Annotated[
        bool | None,
        accepted("Attaches an interface when none is named.", "every machine has one interface", when="!self"),
    ] = None
    autoattach_serial_console: Annotated[bool | None, accepted("Attaches a serial console.", when="self")] = None
    autoattach_vsock: Annotated[bool | None, accepted("Attaches a vsock.", when="self")] = None
    block_multi_queue: bool | None = None
    client_passthrough: Empty | None = None
    disable_hotplug: bool | None = None
    disks: Annotated[list[Disk], implemented("How volumes appear in the machine; a volume without a disk gets one.", max_items=256)] = []
    downward_metrics: Empty | None = None
    filesystems: list[Filesystem] = []
    gpus: Annotated[list[Gpu], rejected("Graphics processors.", NOT_WITHOUT, "a machine without gpus")] = []
    host_devices: Annotated[list[HostDevice], rejected("Devices of the host.", NOT_WITHOUT, "a machine without hostDevices")] = []
    inputs: list[Input] = []
    interfaces: Annotated[list[Interface], implemented("Network interfaces; default one that joins the subnet.", max_items=256)] = []
    log_serial_console: bool | None = None
    network_interface_multiqueue: bool | None = None
    panic_devices: list[PanicDevice] = []
    rng: Annotated[Empty | None, accepted("A source of random numbers.", "the machine has one anyway")] = None
    sound: Sound | None = None
    tpm: Tpm | None = None
    use_virtio_transitional: bool | None = None
    video: Video | None = None
    watchdog: Watchdog | None = None
