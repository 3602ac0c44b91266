"""Processors, memory and what a guest sees of time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from pilvi.errors import UserError
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.qemu.tracking import ram_bytes
from pilvi.host.qemu.translation import translation_bytes
from pilvi.host.qemu.words import Words, json_option, switch

__all__ = ["MEMORY_BLOCK", "memory_backend", "more_bytes", "processor_id", "processor_words", "timezone_of"]

MEMORY_BLOCK = 2 << 20
"""Memory comes to a running machine, and goes from it, in blocks of this size."""

_LONGEST_OFFSET_S = 167 * 3600


def processor_words(spec: QemuSpec) -> Iterator[Words]:
    """Accelerator, processors, memory and clock."""
    cpu = spec.cpu
    emulated = f"tcg,thread=multi,tb-size={translation_bytes(spec.memory.size_bytes, cpu.most_vcpus) >> 20}"
    yield ("-accel", "kvm" if spec.accelerator == "kvm" else emulated)
    yield "-cpu", ",".join(_model(spec))
    topology = f"sockets={cpu.max_sockets},cores={cpu.cores},threads={cpu.threads}"
    yield "-smp", f"cpus={cpu.sockets * cpu.cores * cpu.threads},maxcpus={cpu.most_vcpus},{topology}"
    for socket, core, thread in product(range(cpu.sockets, cpu.sockets + cpu.plugged_sockets), range(cpu.cores), range(cpu.threads)):
        place = {"socket-id": socket, "core-id": core, "thread-id": thread}
        yield json_option("-device", {"driver": f"{_model_name(spec)}-x86_64-cpu", "id": processor_id(socket, core, thread), **place})
    ram = ram_bytes(spec)
    size = f"size={ram}b"
    if more := more_bytes(spec):
        size += f",maxmem={ram + more}b"
    yield "-m", size
    yield json_option("-object", memory_backend(spec, "ram", ram))
    yield "-rtc", ",".join(_clock(spec))
    if spec.timers.pit and spec.accelerator == "kvm":
        yield "-global", f"kvm-pit.lost_tick_policy={spec.timers.pit}"


def timezone_of(spec: QemuSpec) -> str | None:
    """TZ of the process, by which QEMU's `localtime` is what the guest's clock shall show; None for UTC.

    An offset is written as a zone of POSIX, whose sign says what is added to get UTC. Raises UserError when it is too large.
    """
    if spec.timezone is not None:
        return spec.timezone
    offset_s = spec.clock_offset_s
    if offset_s == 0:
        return None
    if abs(offset_s) > _LONGEST_OFFSET_S:
        raise UserError(f"the clock cannot be {offset_s} s off", hint="set it inside the guest")
    minutes, seconds = divmod(abs(offset_s), 60)
    return f"<guest>{'-' if offset_s > 0 else '+'}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _model_name(spec: QemuSpec) -> str:
    # Without KVM there is no processor of the host to show: `max` is all that the emulation can do.
    return "max" if spec.cpu.model == "host" and spec.accelerator == "tcg" else spec.cpu.model


def _model(spec: QemuSpec) -> Iterator[str]:
    yield _model_name(spec)
    for name, is_on in spec.cpu.features.items():
        yield f"{name}={switch(is_on)}"
    for name, value in spec.hyperv.items():
        yield f"hv-{name}={switch(value) if isinstance(value, bool) else value}"
    if spec.hide_hypervisor:
        yield "kvm=off"
    if spec.timers.kvm is not None:
        yield f"kvmclock={switch(spec.timers.kvm)}"
    if spec.timers.hyperv is not None:
        yield f"hv-time={switch(spec.timers.hyperv)}"


def processor_id(socket: int, core: int, thread: int) -> str:
    """The id of a processor that is plugged in."""
    return f"cpu-{socket}-{core}-{thread}"


def more_bytes(spec: QemuSpec) -> int:
    """How much memory the machine can be given while it runs."""
    return max(0, spec.memory.max_bytes - spec.memory.size_bytes) // MEMORY_BLOCK * MEMORY_BLOCK


def memory_backend(spec: QemuSpec, id: str, size_bytes: int) -> dict[str, object]:
    """Memory of the guest as QEMU takes it from the host."""
    memory = spec.memory
    backend: dict[str, object] = {"id": id, "size": size_bytes}
    if memory.hugepage_bytes is not None:
        # From memfd, not from a mounted folder: that needs no right to any path.
        return {"qom-type": "memory-backend-memfd", **backend, "hugetlb": True, "hugetlbsize": memory.hugepage_bytes, "share": True}
    if memory.shared:
        return {"qom-type": "memory-backend-memfd", **backend, "share": True}
    return {"qom-type": "memory-backend-ram", **backend}


def _clock(spec: QemuSpec) -> Iterator[str]:
    yield f"base={'utc' if timezone_of(spec) is None else 'localtime'}"
    yield "clock=host"
    if spec.timers.rtc:
        yield f"driftfix={'slew' if spec.timers.rtc == 'catchup' else 'none'}"
