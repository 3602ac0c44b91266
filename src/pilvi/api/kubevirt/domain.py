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


class HpetTimer(Part):
    present: Annotated[bool | None, implemented("Whether it is there.")] = None
    tick_policy: Annotated[str | None, accepted("What becomes of missed ticks.", "QEMU delays them")] = None


class PlainTimer(Part):
    present: Annotated[bool | None, implemented("Whether it is there.")] = None


class PitTimer(Part):
    present: Annotated[bool | None, accepted("Whether it is there.", "it always is", when="!self")] = None
    tick_policy: Annotated[str | None, implemented("What becomes of missed ticks: delay or discard. Under KVM only.")] = None


class RtcTimer(Part):
    present: Annotated[bool | None, accepted("Whether it is there.", "it always is", when="!self")] = None
    tick_policy: Annotated[str | None, implemented("What becomes of missed ticks: delay or catchup.")] = None
    track: Annotated[str | None, accepted("What it follows.", "it follows the host's clock", when="self != 'wall'")] = None


class Timer(Part):
    hpet: Annotated[HpetTimer | None, implemented("High precision timer.")] = None
    hyperv: Annotated[PlainTimer | None, implemented("Clock for Windows. Under KVM only.")] = None
    kvm: Annotated[PlainTimer | None, implemented("Clock for Linux under KVM.")] = None
    pit: Annotated[PitTimer | None, implemented("The PC's interval timer.")] = None
    rtc: Annotated[RtcTimer | None, implemented("The PC's clock.")] = None


class Utc(Part):
    offset_seconds: Annotated[int | None, implemented("Seconds that the machine's clock is ahead of UTC at its start.")] = None


class Clock(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}

    timer: Annotated[Timer | None, implemented("Timers that the machine has.")] = None
    timezone: Annotated[str | None, implemented("Time that the machine's clock shows, such as Europe/Helsinki.")] = None
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
    dedicated_cpu_placement: Annotated[bool | None, accepted("Pins vCPUs to host CPUs.", "nothing is pinned to host CPUs", when="self")] = (
        None
    )
    features: Annotated[list[CpuFeature], implemented("Features added to the model or taken from it.")] = []
    isolate_emulator_thread: Annotated[
        bool | None, accepted("A host CPU for the emulator alone.", "nothing is pinned to host CPUs", when="self")
    ] = None
    max_sockets: Annotated[
        int | None, implemented("Sockets that the machine can have while it runs; default four times what it starts with.")
    ] = None
    model: Annotated[str | None, implemented("CPU model; default the host's, under TCG all that it can emulate.")] = None
    numa: Annotated[Numa | None, accepted("NUMA nodes of the machine.", "it has one")] = None
    realtime: Annotated[Realtime | None, accepted("Real-time vCPUs.", "nothing is pinned to host CPUs")] = None
    sockets: Annotated[int | None, implemented("Sockets.")] = None
    threads: Annotated[int | None, implemented("Threads of each core.")] = None


class Apic(Part):
    enabled: Annotated[bool | None, accepted("Whether it is there.", "it always is", when="!self")] = None
    end_of_interrupt: Annotated[bool | None, accepted("Ends of interrupts without an exit.", "KVM decides", when="self")] = None


ON = implemented("False takes it away.")


class Spinlocks(Part):
    enabled: Annotated[bool | None, ON] = None
    spinlocks: Annotated[int | None, implemented("Attempts before the hypervisor is told; default 4096.")] = None


class SynicTimer(Part):
    direct: Annotated[Switch | None, implemented("Ticks as interrupts.")] = None
    enabled: Annotated[bool | None, ON] = None


class TlbFlush(Part):
    direct: Annotated[Switch | None, implemented("Also for guests of the guest.")] = None
    enabled: Annotated[bool | None, ON] = None
    extended: Annotated[Switch | None, implemented("Single pages.")] = None


class VendorId(Part):
    enabled: Annotated[bool | None, ON] = None
    vendorid: Annotated[str | None, implemented("Up to 12 letters and digits.")] = None


class HyperV(Part):
    evmcs: Annotated[Switch | None, implemented("Control structures for nested guests.")] = None
    frequencies: Annotated[Switch | None, implemented("Frequencies of its clocks.")] = None
    ipi: Annotated[Switch | None, implemented("Interrupts between processors.")] = None
    reenlightenment: Annotated[Switch | None, implemented("Word of a changed frequency.")] = None
    relaxed: Annotated[Switch | None, implemented("No watchdogs that a busy host would trip.")] = None
    reset: Annotated[Switch | None, implemented("Reset by the hypervisor.")] = None
    runtime: Annotated[Switch | None, implemented("Time that processors really ran.")] = None
    spinlocks: Annotated[Spinlocks | None, implemented("Word of long waits for a lock.")] = None
    synic: Annotated[Switch | None, implemented("Synthetic interrupts.")] = None
    synictimer: Annotated[SynicTimer | None, implemented("Synthetic timers.")] = None
    tlbflush: Annotated[TlbFlush | None, implemented("Flushes on other processors.")] = None
    vapic: Annotated[Switch | None, implemented("A faster interrupt controller.")] = None
    vendorid: Annotated[VendorId | None, implemented("The name that the hypervisor gives itself.")] = None
    vpindex: Annotated[Switch | None, implemented("Numbers of processors.")] = None


class KvmFeature(Part):
    hidden: Annotated[bool | None, implemented("Hides the hypervisor from the guest.")] = None


class Features(Part):
    acpi: Annotated[Switch | None, implemented("ACPI; without it the machine does not hear that it shall power off.")] = None
    apic: Annotated[Apic | None, implemented("The interrupt controller, which is always there.")] = None
    hyperv: Annotated[HyperV | None, implemented("What Windows is told of its hypervisor. Under KVM only; under TCG it does without.")] = (
        None
    )
    hyperv_passthrough: Annotated[Switch | None, implemented("All of that which the host can do. Under KVM only.")] = None
    kvm: Annotated[KvmFeature | None, implemented("What the guest sees of KVM.")] = None
    pvspinlock: Annotated[Switch | None, implemented("Waits for a lock that yield the processor. Under KVM only.")] = None
    smm: Annotated[Switch | None, implemented("System management mode, which secure boot needs.")] = None


class AcpiTables(Part):
    msdm_name_ref: str | None = None
    slic_name_ref: str | None = None


class Bios(Part):
    use_serial: Annotated[bool | None, implemented("The firmware prints to the serial console too.")] = None


class Efi(Part):
    persistent: Annotated[bool | None, implemented("Variables that outlive the instance and go with its VirtualMachine.")] = None
    secure_boot: Annotated[bool | None, implemented("Checks signatures of what is booted; on unless it says false.")] = None


class Bootloader(Part):
    bios: Annotated[Bios | None, implemented("SeaBIOS, the default.")] = None
    efi: Annotated[Efi | None, implemented("UEFI firmware.")] = None


class KernelBootContainer(Part):
    image: Annotated[str, implemented("Container image that holds the kernel.")]
    image_pull_policy: Annotated[
        str | None, implemented("Always, IfNotPresent or Never; default Always for the tag latest, else IfNotPresent.")
    ] = None
    image_pull_secret: Annotated[str | None, implemented("Secret with credentials for the registry.")] = None
    initrd_path: Annotated[str | None, implemented("Path of the initrd in the image.")] = None
    kernel_path: Annotated[str | None, implemented("Path of the kernel in the image; required.")] = None


class KernelBoot(Part):
    container: Annotated[KernelBootContainer | None, implemented("Where kernel and initrd come from.")] = None
    kernel_args: Annotated[str | None, implemented("Arguments of the kernel.")] = None


class Firmware(Part):
    acpi: Annotated[AcpiTables | None, accepted("Licence tables for Windows.", "the machine gets none")] = None
    bootloader: Annotated[Bootloader | None, implemented("BIOS or UEFI.")] = None
    kernel_boot: Annotated[KernelBoot | None, implemented("A kernel that starts without a boot loader.")] = None
    serial: Annotated[str | None, implemented("Serial number in the SMBIOS tables.")] = None
    uuid: Annotated[str | None, implemented("UUID in the SMBIOS tables; default one made of the machine's name.")] = None


class IoThreads(Part):
    supplemental_pool_thread_count: Annotated[
        int | None, accepted("Threads of the pool.", "each disk on bus virtio has a thread of its own")
    ] = None


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
    page_size: Annotated[str | None, implemented("2Mi or 1Gi.")] = None


class ReservedOverhead(Part):
    added_overhead: Quantity | None = None
    mem_lock: Literal["NotRequired", "Required"] | None = None


class Memory(Part):
    guest: Annotated[Quantity | None, implemented("Memory that the machine sees.")] = None
    hugepages: Annotated[Hugepages | None, implemented("Memory from the host's huge pages; a machine waits for a host that has them.")] = (
        None
    )
    max_guest: Annotated[
        Quantity | None, implemented("Memory that the machine can have while it runs; default four times guest, from 1Gi on.")
    ] = None
    reserved_overhead: Annotated[
        ReservedOverhead | None, accepted("More memory for the machine's process.", "what QEMU needs is reckoned by pilvi")
    ] = None


class Resources(Part):
    limits: Annotated[dict[str, Quantity], implemented("Most cpu and memory that the machine may take of its host.")] = {}
    overcommit_guest_overhead: Annotated[bool | None, implemented("Reserves no memory beyond the guest's own.")] = None
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
    io_threads: Annotated[IoThreads | None, implemented("Threads that answer disks.")] = None
    io_threads_policy: Annotated[
        str | None, implemented("shared, auto or supplementalPool: each disk on bus virtio has a thread of its own.")
    ] = None
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
