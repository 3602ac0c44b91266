"""A machine's TPM 2.0: a process of its own (swtpm), which QEMU talks to through a socket in the machine's folder."""

from __future__ import annotations

from pathlib import Path

from pilvi.errors import Bug
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.units import FIRST_DESCRIPTOR, CgroupLimits, OpenFile, SocketProbe, UnitSpec

__all__ = ["tpm_unit", "tpm_unit_name"]

_MEMORY_BYTES = 53 << 20  # as KubeVirt reckons it


def tpm_unit_name(machine: str) -> str:
    """The unit of the TPM of that machine, whose unit is called `machine`."""
    return f"{machine}-tpm"


def tpm_unit(spec: QemuSpec, state: Path) -> UnitSpec:
    """The TPM of `spec`, whose secrets are in the file `state` (0600, the machine's user, who need not reach it). Pure.

    It has to be ready before QEMU starts, and ends with it, so it is stopped and started anew with each start of the machine; `state` keeps
    what the guest has put into it. An empty file becomes a new TPM.
    """
    if spec.tpm is None:
        raise Bug(f"machine {spec.name} has no TPM")
    return UnitSpec(
        name=tpm_unit_name(spec.name),
        argv=(
            *("swtpm", "socket", "--tpm2"),
            *("--tpmstate", f"backend-uri=file:///proc/self/fd/{FIRST_DESCRIPTOR},mode=0600"),
            *("--ctrl", f"type=unixio,path={spec.tpm},mode=0600"),
        ),
        descriptors=(OpenFile(path=state, writable=True),),
        netns=spec.netns,
        uid=spec.user,
        gid=spec.user,
        cgroup=CgroupLimits(memory_bytes=_MEMORY_BYTES, pids=16),
        log_path=spec.log.with_name("tpm.log"),
        ready=SocketProbe(path=spec.tpm),
        restart="never",
    )
