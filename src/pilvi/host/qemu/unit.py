"""A machine as a unit: one QEMU process with a user of its own, limits, and nothing of the host within its reach."""

from __future__ import annotations

from typing import Literal

from pilvi.host.qemu.argv import argv
from pilvi.host.qemu.processor import timezone_of
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.qemu.translation import translation_bytes
from pilvi.host.units import CgroupLimits, SocketProbe, UnitSpec

__all__ = ["limits", "overhead_bytes", "qemu_unit"]

_MIB = 1 << 20
# QEMU answers disks with up to 64 threads; beside them the main loop, VNC, RCU, and one for each disk that has its own.
_THREADS = 128


def overhead_bytes(memory_bytes: int, vcpus: int, *, accelerator: Literal["kvm", "tcg"] = "tcg") -> int:
    """Memory that a machine costs beyond its guest's at most, as KubeVirt reckons it for QEMU alone
    (pkg/hypervisor/kvm/hypervisorbackend.go: 50 MiB, page tables, 8 MiB for each processor, 32 MiB for the screen).

    16 MiB for the flash devices of UEFI come on top, and the translated code of a guest without KVM.
    """  # fmt: skip
    translation = translation_bytes(memory_bytes, vcpus) if accelerator == "tcg" else 0
    return (50 + 32 + 16 + 8 * vcpus) * _MIB + memory_bytes // 512 + translation


def limits(spec: QemuSpec, memory_bytes: int) -> CgroupLimits:
    """What the machine may use while its guest has that much memory. Pure."""
    vcpus = spec.cpu.most_vcpus
    return CgroupLimits(
        memory_bytes=memory_bytes + overhead_bytes(memory_bytes, vcpus, accelerator=spec.accelerator),
        cpu_milli=spec.cpu_milli,
        pids=_THREADS + 2 * vcpus,
    )


def qemu_unit(spec: QemuSpec) -> UnitSpec:
    """The unit that runs `spec`. Pure. Raises UserError for what no machine can be.

    It may use what the guest may come to have, and the overhead of that, until somebody sets lower `limits`. Its network namespace, its
    sockets' folder (0700, the machine's user) and all files of its drives must be there before it starts. It is never started again by
    itself: a guest that ended is for others to judge. SIGTERM has QEMU end at once, whatever the guest does; a guest is shut down through
    the monitor first.
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
        cgroup=limits(spec, max(spec.memory.size_bytes, spec.memory.max_bytes)),
        log_path=spec.log,
        ready=SocketProbe(path=spec.sockets.monitor),
        restart="never",
        stop_grace_s=min(spec.stop_grace_s, 10.0),
    )
