"""Preferences: what a guest likes its machine to be, where the machine itself says nothing."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar

from pilvi.api.core import Empty
from pilvi.api.field import Part, Quantity, accepted, implemented
from pilvi.api.instancetype.fills import fills
from pilvi.api.kubevirt.devices import (
    BlockSize,
    CdromTarget,
    Devices,
    Disk,
    DiskTarget,
    GpuOptions,
    Input,
    Interface,
    LunTarget,
    Sound,
    Switch,
    Tpm,
    Video,
)
from pilvi.api.kubevirt.domain import (
    Apic,
    Bios,
    Bootloader,
    Clock,
    Cpu,
    CpuFeature,
    Domain,
    Efi,
    Features,
    HyperV,
    KvmFeature,
    LaunchSecurity,
    MachineType,
    Timer,
    Utc,
)
from pilvi.api.kubevirt.instance import VirtualMachineInstanceSpec
from pilvi.api.object import Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["ACROSS", "TOPOLOGIES", "VirtualMachineClusterPreference", "VirtualMachinePreference", "VirtualMachinePreferenceSpec"]

TOPOLOGIES = ("sockets", "cores", "threads", "spread", "any")
"""What vCPUs become; upstream's old names are these with `prefer` before them."""
ACROSS = ("SocketsCores", "CoresThreads", "SocketsCoresThreads")


class ClockOffset(Part):
    timezone: Annotated[str | None, fills(Clock, "timezone", "A clock that shows the time of this zone.")] = None
    utc: Annotated[Utc | None, fills(Clock, "utc", "A clock that shows UTC.")] = None


class ClockPreferences(Part):
    preferred_clock_offset: Annotated[ClockOffset | None, implemented("What the clock shows, where the machine does not say.")] = None
    preferred_timer: Annotated[Timer | None, fills(Clock, "timer", "Timers of the machine.")] = None


class SpreadOptions(Part):
    across: Annotated[str | None, implemented("SocketsCores (default), CoresThreads or SocketsCoresThreads.")] = None
    ratio: Annotated[int | None, implemented("Cores of each socket, or threads of each core; default 2.")] = None


class CpuPreferences(Part):
    preferred_cpu_features: Annotated[list[CpuFeature], fills(Cpu, "features", "CPU features that the machine does not name.")] = []
    preferred_cpu_topology: Annotated[str | None, implemented("sockets (default), cores, threads, spread or any.")] = None
    spread_options: Annotated[SpreadOptions | None, implemented("How spread divides vCPUs.")] = None


class DevicePreferences(Part):
    preferred_autoattach_graphics_device: Annotated[bool | None, fills(Devices, "autoattach_graphics_device", "A screen.")] = None
    preferred_autoattach_input_device: Annotated[bool | None, fills(Devices, "autoattach_input_device", "A tablet.")] = None
    preferred_autoattach_mem_balloon: Annotated[bool | None, fills(Devices, "autoattach_mem_balloon", "A memory balloon.")] = None
    preferred_autoattach_pod_interface: Annotated[bool | None, fills(Devices, "autoattach_pod_interface", "An interface.")] = None
    preferred_autoattach_serial_console: Annotated[bool | None, fills(Devices, "autoattach_serial_console", "A serial console.")] = None
    preferred_block_multi_queue: Annotated[bool | None, fills(Devices, "block_multi_queue", "A queue of disks for each vCPU.")] = None
    preferred_cdrom_bus: Annotated[str | None, fills(CdromTarget, "bus", "Bus of drives for discs.")] = None
    preferred_disable_hotplug: Annotated[bool | None, fills(Devices, "disable_hotplug", "No hot plug.")] = None
    preferred_disk_block_size: Annotated[BlockSize | None, fills(Disk, "block_size", "Block sizes of disks.")] = None
    preferred_disk_bus: Annotated[str | None, fills(DiskTarget, "bus", "Bus of disks.")] = None
    preferred_disk_cache: Annotated[str | None, fills(Disk, "cache", "Cache mode of disks.")] = None
    preferred_disk_dedicated_io_thread: Annotated[
        bool | None, fills(Disk, "dedicated_io_thread", "A thread of the host for each disk on bus virtio.")
    ] = None
    preferred_disk_io: Annotated[str | None, fills(Disk, "io", "How the host reads and writes disks.")] = None
    preferred_input_bus: Annotated[str | None, fills(Input, "bus", "Bus of input devices.")] = None
    preferred_input_type: Annotated[str | None, fills(Input, "type", "Kind of input devices.")] = None
    preferred_interface_masquerade: Annotated[
        Empty | None, fills(Interface, "masquerade", "Binding of interfaces in the pod network that name none.")
    ] = None
    preferred_interface_model: Annotated[str | None, fills(Interface, "model", "Model of network cards.")] = None
    preferred_lun_bus: Annotated[str | None, fills(LunTarget, "bus", "Bus of disks that take SCSI commands.")] = None
    preferred_network_interface_multi_queue: Annotated[
        bool | None, fills(Devices, "network_interface_multiqueue", "A queue of network cards for each vCPU.")
    ] = None
    preferred_panic_device_model: Annotated[str | None, fills(Devices, "panic_devices", "A device that tells of panics.")] = None
    preferred_rng: Annotated[Empty | None, fills(Devices, "rng", "A source of random numbers.")] = None
    preferred_sound_model: Annotated[str | None, fills(Sound, "model", "Model of a sound card that names none.")] = None
    preferred_tpm: Annotated[Tpm | None, fills(Devices, "tpm", "A TPM.")] = None
    preferred_use_virtio_transitional: Annotated[
        bool | None, fills(Devices, "use_virtio_transitional", "Virtio devices that old guests know.")
    ] = None
    preferred_video_type: Annotated[str | None, fills(Video, "type", "Model of the screen's card.")] = None
    preferred_virtual_gpu_options: Annotated[GpuOptions | None, accepted("Options of virtual GPUs.", "machines have no gpus")] = None


class FeaturePreferences(Part):
    preferred_acpi: Annotated[Switch | None, fills(Features, "acpi", "ACPI; also where the machine says something.")] = None
    preferred_apic: Annotated[Apic | None, fills(Features, "apic", "APIC.")] = None
    preferred_hyperv: Annotated[HyperV | None, fills(Features, "hyperv", "Hyper-V features, each by itself.")] = None
    preferred_kvm: Annotated[KvmFeature | None, fills(Features, "kvm", "What the guest sees of KVM.")] = None
    preferred_pvspinlock: Annotated[Switch | None, fills(Features, "pvspinlock", "Paravirtual spin locks.")] = None
    preferred_smm: Annotated[Switch | None, fills(Features, "smm", "System management mode.")] = None


class FirmwarePreferences(Part):
    preferred_efi: Annotated[Efi | None, fills(Bootloader, "efi", "UEFI with these settings, where the machine names no firmware.")] = None
    preferred_use_bios: Annotated[bool | None, fills(Bootloader, "bios", "BIOS, where the machine names no firmware.")] = None
    preferred_use_bios_serial: Annotated[bool | None, fills(Bios, "use_serial", "The BIOS prints to the serial console too.")] = None
    preferred_use_efi: Annotated[bool | None, fills(Bootloader, "efi", "Old form of preferredEfi.")] = None
    preferred_use_secure_boot: Annotated[bool | None, fills(Efi, "secure_boot", "Old form of preferredEfi.secureBoot.")] = None


class MachinePreferences(Part):
    preferred_machine_type: Annotated[str | None, fills(MachineType, "type", "Machine type of QEMU.")] = None


class CpuRequirement(Part):
    guest: Annotated[int, implemented("Fewest vCPUs.")]


class MemoryRequirement(Part):
    guest: Annotated[Quantity, implemented("Least memory.")]


class Requirements(Part):
    architecture: Annotated[str | None, implemented("The only architecture.")] = None
    cpu: Annotated[CpuRequirement | None, implemented("Fewest vCPUs.")] = None
    memory: Annotated[MemoryRequirement | None, implemented("Least memory.")] = None


class VolumePreferences(Part):
    preferred_storage_class_name: Annotated[
        str | None, accepted("Storage class of the machine's DataVolumes.", "a DataVolume's own storage class holds, else the default")
    ] = None


class VirtualMachinePreferenceSpec(Part):
    annotations: Annotated[dict[str, str], implemented("Annotations of the instance that it does not have.")] = {}
    clock: Annotated[ClockPreferences | None, implemented("Clock.")] = None
    cpu: Annotated[CpuPreferences | None, implemented("Processor.")] = None
    devices: Annotated[DevicePreferences | None, implemented("Devices.")] = None
    features: Annotated[FeaturePreferences | None, implemented("Features.")] = None
    firmware: Annotated[FirmwarePreferences | None, implemented("Firmware.")] = None
    machine: Annotated[MachinePreferences | None, implemented("Machine type.")] = None
    prefer_spread_socket_to_core_ratio: Annotated[int | None, implemented("Old form of cpu.spreadOptions.ratio.")] = None
    preferred_architecture: Annotated[
        str | None, fills(VirtualMachineInstanceSpec, "architecture", "CPU architecture, where the machine names none.")
    ] = None
    preferred_launch_security: Annotated[LaunchSecurity | None, fills(Domain, "launch_security", "Encrypted memory.")] = None
    preferred_subdomain: Annotated[str | None, fills(VirtualMachineInstanceSpec, "subdomain", "Domain of the host name.")] = None
    preferred_termination_grace_period_seconds: Annotated[
        int | None, fills(VirtualMachineInstanceSpec, "termination_grace_period_seconds", "Time to stop by itself.")
    ] = None
    requirements: Annotated[Requirements | None, implemented("What a machine must have; one that has less is refused.")] = None
    volumes: Annotated[VolumePreferences | None, implemented("Volumes.")] = None


_TOPOLOGIES = [*TOPOLOGIES, *(f"prefer{name.capitalize()}" for name in TOPOLOGIES)]
_RULES = (
    Rule(
        f"object.?spec.?cpu.?preferredCPUTopology.orValue('any') in {_TOPOLOGIES}",
        f"'spec.cpu.preferredCPUTopology ' + object.spec.cpu.preferredCPUTopology + ' is not one of {', '.join(TOPOLOGIES)}'",
    ),
    Rule(
        f"object.?spec.?cpu.?spreadOptions.?across.orValue('SocketsCores') in {[*ACROSS]}",
        f"'spec.cpu.spreadOptions.across ' + object.spec.cpu.spreadOptions.across + ' is not one of {', '.join(ACROSS)}'",
    ),
    Rule("object.?spec.?cpu.?spreadOptions.?ratio.orValue(1) >= 1", "'spec.cpu.spreadOptions.ratio must be 1 or more'"),
    Rule("object.?spec.?preferSpreadSocketToCoreRatio.orValue(0) >= 0", "'spec.preferSpreadSocketToCoreRatio must not be negative'"),
    Rule(
        "!object.?spec.?requirements.?memory.?guest.hasValue() || isQuantity(string(object.spec.requirements.memory.guest))",
        "'spec.requirements.memory.guest must be a quantity such as 2Gi, not ' + string(object.spec.requirements.memory.guest)",
    ),
)


class VirtualMachinePreference(Object):
    """What a guest likes its machine to be, for the VirtualMachines of its namespace."""

    RESOURCE: ClassVar[Resource] = Resource("instancetype.kubevirt.io", "v1beta1", "virtualmachinepreferences", "VirtualMachinePreference")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmpref", "vmprefs", "vmp", "vmps"), categories=("all",), status=False, rules=_RULES
    )

    spec: VirtualMachinePreferenceSpec


class VirtualMachineClusterPreference(Object):
    """What a guest likes its machine to be, for VirtualMachines everywhere."""

    RESOURCE: ClassVar[Resource] = Resource(
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachineclusterpreferences",
        "VirtualMachineClusterPreference",
        namespaced=False,
    )
    DEFINITION: ClassVar[Definition] = Definition(short_names=("vmcp", "vmcps"), status=False, rules=_RULES)

    spec: VirtualMachinePreferenceSpec
