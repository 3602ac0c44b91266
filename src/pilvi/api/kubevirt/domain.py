"""The hardware of a virtual machine: processor, memory, firmware, features."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.core import Empty
from pilvi.api.field import Part, Quantity, accepted, implemented, rejected
from pilvi.api.kubevirt.devices import Devices, Switch

__all__ = ["Cpu", "Domain", "Memory", "Resources"]


class Chassis(Part):
    asset: Annotated[str | None, implemented("Asset tag in the SMBIOS tables.")] = None
    manufacturer: Annotated[str | None, implemented("Manufacturer in the SMBIOS tables.")] = None
    serial: Annotated[str | None, implemented("Serial number in the SMBIOS tables.")] = None
    sku: Annotated[str | None, implemented("SKU in the SMBIOS tables.")] = None
    version: Annotated[str | None, implemented("Version in the SMBIOS tables.")] = None


class TickTimer(Part):
    present: bool | None = None
    tick_policy: str | None = None


class PlainTimer(Part):
    present: bool | None = None


class RtcTimer(Part):
    present: bool | None = None
    tick_policy: str | None = None
    track: str | None = None


class Timer(Part):
    hpet: TickTimer | None = None
    hyperv: PlainTimer | None = None
    kvm: PlainTimer | None = None
    pit: TickTimer | None = None
    rtc: RtcTimer | None = None


class Utc(Part):
    offset_seconds: Annotated[int | None, implemented("Seconds that the machine's clock is ahead of UTC at its start.")] = None


class Clock(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}

    timer: Timer | None = None
    timezone: str | None = None
    utc: Annotated[Utc | None, implemented("A clock that shows UTC.")] = None


class CpuFeature(Part):
    name: Annotated[str, implemented("Name of the feature, as QEMU has it.")]
    policy: Annotated[str | None, implemented("disable and forbid take it away; all others ask for it.")] = None


class Numa(Part):
    guest_mapping_passthrough: Empty | None = None


class Realtime(Part):
    mask: str | None = None


class Cpu(Part):
    cores: Annotated[int | None, implemented("Cores of each socket; vCPUs are cores x sockets x threads.")] = None
    dedicated_cpu_placement: Annotated[bool | None, accepted("Pins vCPUs to host CPUs.", when="self")] = None
    features: Annotated[list[CpuFeature], implemented("Features added to the model or taken from it.")] = []
    isolate_emulator_thread: bool | None = None
    max_sockets: Annotated[
        int | None, implemented("Sockets that the machine can have while it runs; default four times what it starts with.")
    ] = None
    model: Annotated[str | None, implemented("CPU model; default the host's, under TCG all that it can emulate.")] = None
    numa: Numa | None = None
    realtime: Realtime | None = None
    sockets: Annotated[int | None, implemented("Sockets.")] = None
    threads: Annotated[int | None, implemented("Threads of each core.")] = None


class Apic(Part):
    enabled: bool | None = None
    end_of_interrupt: bool | None = None


class Spinlocks(Part):
    enabled: bool | None = None
    spinlocks: int | None = None


class SynicTimer(Part):
    direct: Switch | None = None
    enabled: bool | None = None


class TlbFlush(Part):
    direct: Switch | None = None
    enabled: bool | None = None
    extended: Switch | None = None


class VendorId(Part):
    enabled: bool | None = None
    vendorid: str | None = None


class HyperV(Part):
    evmcs: Switch | None = None
    frequencies: Switch | None = None
    ipi: Switch | None = None
    reenlightenment: Switch | None = None
    relaxed: Switch | None = None
    reset: Switch | None = None
    runtime: Switch | None = None
    spinlocks: Spinlocks | None = None
    synic: Switch | None = None
    synictimer: SynicTimer | None = None
    tlbflush: TlbFlush | None = None
    vapic: Switch | None = None
    vendorid: VendorId | None = None
    vpindex: Switch | None = None


class KvmFeature(Part):
    hidden: Annotated[bool | None, implemented("Hides the hypervisor from the guest.")] = None


class Features(Part):
    acpi: Annotated[Switch | None, implemented("ACPI; without it the machine does not hear that it shall power off.")] = None
    apic: Apic | None = None
    hyperv: HyperV | None = None
    hyperv_passthrough: Switch | None = None
    kvm: Annotated[KvmFeature | None, implemented("What the guest sees of KVM.")] = None
    pvspinlock: Switch | None = None
    smm: Annotated[Switch | None, implemented("System management mode, which secure boot needs.")] = None


class AcpiTables(Part):
    msdm_name_ref: str | None = None
    slic_name_ref: str | None = None


class Bios(Part):
    use_serial: Annotated[bool | None, implemented("The firmware prints to the serial console too.")] = None


class Efi(Part):
    persistent: Annotated[
        bool | None, accepted("Variables that outlive the instance.", "not implemented yet: they are new at each start", when="self")
    ] = None
    secure_boot: Annotated[bool | None, implemented("Checks signatures of what is booted; on unless it says false.")] = None


class Bootloader(Part):
    bios: Annotated[Bios | None, implemented("SeaBIOS, the default.")] = None
    efi: Annotated[Efi | None, implemented("UEFI firmware.")] = None


class KernelBootContainer(Part):
    image: str
    image_pull_policy: str | None = None
    image_pull_secret: str | None = None
    initrd_path: str | None = None
    kernel_path: str | None = None


class KernelBoot(Part):
    container: KernelBootContainer | None = None
    kernel_args: str | None = None


class Firmware(Part):
    acpi: AcpiTables | None = None
    bootloader: Annotated[Bootloader | None, implemented("BIOS or UEFI.")] = None
    kernel_boot: Annotated[
        KernelBoot | None,
        rejected("A kernel that starts without a boot loader.", "not implemented yet, and the machine would boot something else", "a disk"),
    ] = None
    serial: Annotated[str | None, implemented("Serial number in the SMBIOS tables.")] = None
    uuid: Annotated[str | None, implemented("UUID in the SMBIOS tables; default one made of the machine's name.")] = None


class IoThreads(Part):
    supplemental_pool_thread_count: int | None = None


class SevPolicy(Part):
    encrypted_state: bool | None = None


class Sev(Part):
    attestation: Empty | None = None
    dh_cert: str | None = None
    policy: SevPolicy | None = None
    session: str | None = None


class LaunchSecurity(Part):
    sev: Sev | None = None
    snp: Empty | None = None
    tdx: Empty | None = None


class MachineType(Part):
    type: Annotated[str | None, implemented("Machine type of QEMU; default and q35 are its newest q35.")] = None


class Hugepages(Part):
    page_size: str | None = None


class ReservedOverhead(Part):
    added_overhead: Quantity | None = None
    mem_lock: Literal["NotRequired", "Required"] | None = None


class Memory(Part):
    guest: Annotated[Quantity | None, implemented("Memory that the machine sees.")] = None
    hugepages: Annotated[
        Hugepages | None, accepted("Memory from huge pages.", "the memory is ordinary, of one page's size when no other is given")
    ] = None
    max_guest: Annotated[
        Quantity | None, implemented("Memory that the machine can have while it runs; default four times guest, from 1Gi on.")
    ] = None
    reserved_overhead: ReservedOverhead | None = None


class Resources(Part):
    limits: Annotated[dict[str, Quantity], implemented("Most cpu and memory that the machine may take of its host.")] = {}
    overcommit_guest_overhead: bool | None = None
    requests: Annotated[
        dict[str, Quantity],
        implemented("What the scheduler reserves; cpu and memory size the machine when domain.cpu and memory do not."),
    ] = {}


class Domain(Part):
    devices: Annotated[Devices, implemented("Devices of the machine.")]
    chassis: Annotated[Chassis | None, implemented("Chassis in the SMBIOS tables.")] = None
    clock: Annotated[Clock | None, implemented("Clock of the machine; default UTC.")] = None
    cpu: Annotated[Cpu | None, implemented("Processor; default one vCPU, or as many as requests or limits say.")] = None
    features: Annotated[Features | None, implemented("Features of the machine.")] = None
    firmware: Annotated[Firmware | None, implemented("Firmware of the machine; default BIOS.")] = None
    io_threads: IoThreads | None = None
    io_threads_policy: str | None = None
    launch_security: Annotated[
        LaunchSecurity | None,
        rejected(
            "Encrypted memory.", "not implemented, and the machine's memory would lie open to the host", "a machine without launchSecurity"
        ),
    ] = None
    machine: Annotated[MachineType | None, implemented("Machine type.")] = None
    memory: Annotated[Memory | None, implemented("Memory; default what requests or limits say.")] = None
    reboot_policy: Annotated[Literal["Reboot", "Terminate"] | None, implemented("Whether a reboot of the guest ends the instance.")] = None
    resources: Annotated[Resources | None, implemented("Requests and limits of the machine.")] = None
