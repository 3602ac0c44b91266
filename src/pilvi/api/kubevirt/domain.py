"""The hardware of a virtual machine: processor, memory, firmware, features."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.core import Empty
from pilvi.api.field import Part, Quantity, accepted, implemented, rejected
from pilvi.api.kubevirt.devices import Devices, Switch

__all__ = ["Cpu", "Domain", "Memory", "Resources"]


class Chassis(Part):
    asset: str | None = None
    manufacturer: str | None = None
    serial: str | None = None
    sku: str | None = None
    version: str | None = None


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
    offset_seconds: int | None = None


class Clock(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"x-kubernetes-preserve-unknown-fields": True}

    timer: Timer | None = None
    timezone: str | None = None
    utc: Utc | None = None


class CpuFeature(Part):
    name: str
    policy: str | None = None


class Numa(Part):
    guest_mapping_passthrough: Empty | None = None


class Realtime(Part):
    mask: str | None = None


class Cpu(Part):
    cores: Annotated[int | None, implemented("Cores of each socket; vCPUs are cores x sockets x threads.")] = None
    dedicated_cpu_placement: Annotated[bool | None, accepted("Pins vCPUs to host CPUs.", when="self")] = None
    features: list[CpuFeature] = []
    isolate_emulator_thread: bool | None = None
    max_sockets: int | None = None
    model: Annotated[str | None, accepted("CPU model.", "the machine sees the host's CPU", when="self != '' && self != 'host-model'")] = (
        None
    )
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
    hidden: bool | None = None


class Features(Part):
    acpi: Switch | None = None
    apic: Apic | None = None
    hyperv: HyperV | None = None
    hyperv_passthrough: Switch | None = None
    kvm: KvmFeature | None = None
    pvspinlock: Switch | None = None
    smm: Switch | None = None


class AcpiTables(Part):
    msdm_name_ref: str | None = None
    slic_name_ref: str | None = None


class Bios(Part):
    use_serial: bool | None = None


class Efi(Part):
    persistent: bool | None = None
    secure_boot: bool | None = None


class Bootloader(Part):
    bios: Bios | None = None
    efi: Efi | None = None


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
    bootloader: Bootloader | None = None
    kernel_boot: KernelBoot | None = None
    serial: str | None = None
    uuid: str | None = None


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
    type: str | None = None


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
    max_guest: Quantity | None = None
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
    chassis: Chassis | None = None
    clock: Clock | None = None
    cpu: Annotated[Cpu | None, implemented("Processor; default one vCPU, or as many as requests or limits say.")] = None
    features: Features | None = None
    firmware: Firmware | None = None
    io_threads: IoThreads | None = None
    io_threads_policy: str | None = None
    launch_security: Annotated[
        LaunchSecurity | None,
        rejected(
            "Encrypted memory.", "not implemented, and the machine's memory would lie open to the host", "a machine without launchSecurity"
        ),
    ] = None
    machine: Annotated[MachineType | None, accepted("Machine type.", "pilvi chooses it", when="self.?type.orValue('') != ''")] = None
    memory: Annotated[Memory | None, implemented("Memory; default what requests or limits say.")] = None
    reboot_policy: Literal["Reboot", "Terminate"] | None = None
    resources: Annotated[Resources | None, implemented("Requests and limits of the machine.")] = None
