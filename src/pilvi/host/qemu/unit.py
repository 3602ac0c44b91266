"""A machine as a unit: one QEMU process with a user of its own, limits, and nothing of the host within its reach."""

from __future__ import annotations

from pilvi.host.qemu.argv import argv
from pilvi.host.qemu.processor import TRANSLATION_BYTES, timezone_of
from pilvi.host.qemu.spec import QemuSpec, Uefi
from pilvi.host.units import CgroupLimits, SocketProbe, UnitSpec

__all__ = ["overhead_bytes", "qemu_unit"]

_MIB = 1 << 20
# QEMU answers disks with up to 64 threads; beside them the main loop, VNC, RCU, and one for each disk that has its own.
_THREADS = 128


def overhead_bytes(spec: QemuSpec) -> int:
    """Memory that a machine costs beyond its guest's at most, as KubeVirt reckons it for QEMU alone
    (pkg/hypervisor/kvm/hypervisorbackend.go: 50 MiB, page tables, 8 MiB for each processor, 32 MiB for the screen).

    Without KVM the translated code comes on top, with UEFI its two flash devices.
    """  # fmt: skip
    memory = max(spec.memory.size_bytes, spec.memory.max_bytes)
    overhead = 50 * _MIB + memory // 512 + 8 * _MIB * _processors(spec)
    if spec.screen:
        overhead += 32 * _MIB
    if spec.accelerator == "tcg":
        overhead += TRANSLATION_BYTES
    if isinstance(spec.firmware, Uefi):
        overhead += 16 * _MIB
    return overhead


def qemu_unit(spec: QemuSpec) -> UnitSpec:
    """The unit that runs `spec`. Pure. Raises UserError for what no machine can be.

    Its network namespace, its sockets' folder (0700, the machine's user) and all files of its drives must be there before it starts. It is
    never started again by itself: a guest that ended is for others to judge. SIGTERM has QEMU end at once, whatever the guest does;
    a guest is shut down through the monitor first.
    """
    command = argv(spec)
    timezone = timezone_of(spec)
    return UnitSpec(
        name=spec.name,
        argv=command.argv,
        descriptors=command.descriptors,
        env={} if timezone is None else {"TZ": timezone},
        netns=spec.netns,
        uid=spec.user,
        gid=spec.user if spec.group is None else spec.group,
        cgroup=CgroupLimits(
            memory_bytes=max(spec.memory.size_bytes, spec.memory.max_bytes) + overhead_bytes(spec),
            cpu_milli=spec.cpu_milli,
            pids=_THREADS + 2 * _processors(spec),
        ),
        log_path=spec.log,
        ready=SocketProbe(path=spec.sockets.monitor),
        restart="never",
        stop_grace_s=min(spec.stop_grace_s, 10.0),
    )


def _processors(spec: QemuSpec) -> int:
    return max(spec.cpu.sockets, spec.cpu.max_sockets) * spec.cpu.cores * spec.cpu.threads
