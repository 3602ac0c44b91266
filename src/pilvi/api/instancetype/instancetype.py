"""Instancetypes: sizes of machines by name."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar

import msgspec

from pilvi.api.field import Part, Quantity, implemented
from pilvi.api.instancetype.fills import fills
from pilvi.api.kubevirt.devices import Devices, Gpu, HostDevice
from pilvi.api.kubevirt.domain import Cpu, Domain, Hugepages, IoThreads, LaunchSecurity, Memory, Numa, Realtime
from pilvi.api.kubevirt.instance import VirtualMachineInstanceSpec
from pilvi.api.object import Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["VirtualMachineClusterInstancetype", "VirtualMachineInstancetype", "VirtualMachineInstancetypeSpec"]


class CpuInstancetype(Part):
    guest: Annotated[int, implemented("vCPUs of the machine; the preference says whether they are sockets, cores or threads.")]
    dedicated_cpu_placement: Annotated[bool | None, fills(Cpu, "dedicated_cpu_placement", "Pins vCPUs to host CPUs.")] = msgspec.field(
        default=None, name="dedicatedCPUPlacement"
    )
    isolate_emulator_thread: Annotated[bool | None, fills(Cpu, "isolate_emulator_thread", "A CPU of the host for QEMU itself.")] = None
    max_sockets: Annotated[int | None, fills(Cpu, "max_sockets", "Most sockets that a running machine may get.")] = None
    model: Annotated[str | None, fills(Cpu, "model", "CPU model.")] = None
    numa: Annotated[Numa | None, fills(Cpu, "numa", "Memory nodes as on the host.")] = None
    realtime: Annotated[Realtime | None, fills(Cpu, "realtime", "vCPUs that nothing interrupts.")] = None


class MemoryInstancetype(Part):
    guest: Annotated[Quantity, implemented("Memory that the machine sees.")]
    hugepages: Annotated[Hugepages | None, fills(Memory, "hugepages", "Memory from huge pages.")] = None
    max_guest: Annotated[Quantity | None, fills(Memory, "max_guest", "Most memory that a running machine may get.")] = None
    overcommit_percent: Annotated[
        int | None, implemented("By how much less than guest the scheduler reserves, in percent.", minimum=0, maximum=100)
    ] = None


class VirtualMachineInstancetypeSpec(Part):
    cpu: Annotated[CpuInstancetype, implemented("Processor of the machine.")]
    memory: Annotated[MemoryInstancetype, implemented("Memory of the machine.")]
    annotations: Annotated[dict[str, str], implemented("Annotations of the instance.")] = {}
    gpus: Annotated[list[Gpu], fills(Devices, "gpus", "Graphics processors.")] = []
    host_devices: Annotated[list[HostDevice], fills(Devices, "host_devices", "Devices of the host.")] = []
    io_threads: Annotated[IoThreads | None, fills(Domain, "io_threads", "Threads for disks.")] = None
    io_threads_policy: Annotated[str | None, fills(Domain, "io_threads_policy", "How disks share threads.")] = None
    launch_security: Annotated[LaunchSecurity | None, fills(Domain, "launch_security", "Encrypted memory.")] = None
    node_selector: Annotated[dict[str, str], fills(VirtualMachineInstanceSpec, "node_selector", "Labels of the host.")] = {}
    scheduler_name: Annotated[str | None, fills(VirtualMachineInstanceSpec, "scheduler_name", "Scheduler that places the machine.")] = None


_RULES = (
    Rule("object.?spec.?cpu.?guest.orValue(1) >= 1", "'spec.cpu.guest is the number of vCPUs: write 1 or more'"),
    Rule(
        "!object.?spec.?memory.?guest.hasValue()"
        " || (isQuantity(string(object.spec.memory.guest)) && quantity(string(object.spec.memory.guest)).isGreaterThan(quantity('0')))",
        "'spec.memory.guest must be a positive quantity such as 2Gi, not ' + string(object.spec.memory.guest)",
    ),
    Rule(
        "object.?spec.?memory.?overcommitPercent.orValue(0) == 0 || !object.?spec.?memory.?hugepages.hasValue()",
        "'spec.memory.overcommitPercent and spec.memory.hugepages should not be requested together: huge pages are there or not;"
        " leave one of them out'",
    ),
)


class VirtualMachineInstancetype(Object):
    """A size of machines, for the VirtualMachines of its namespace."""

    RESOURCE: ClassVar[Resource] = Resource(
        "instancetype.kubevirt.io", "v1beta1", "virtualmachineinstancetypes", "VirtualMachineInstancetype"
    )
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vminstancetype", "vminstancetypes", "vmf", "vmfs"), categories=("all",), status=False, rules=_RULES
    )

    spec: VirtualMachineInstancetypeSpec


class VirtualMachineClusterInstancetype(Object):
    """A size of machines, for VirtualMachines everywhere."""

    RESOURCE: ClassVar[Resource] = Resource(
        "instancetype.kubevirt.io",
        "v1beta1",
        "virtualmachineclusterinstancetypes",
        "VirtualMachineClusterInstancetype",
        namespaced=False,
    )
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"), status=False, rules=_RULES
    )

    spec: VirtualMachineInstancetypeSpec
