"""A machine's TPM 2.0: a process of its own (swtpm), which QEMU talks to through a socket in the machine's folder."""

from __future__ import annotations

from pathlib import Path

from pilvi.errors import Bug
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.units import CgroupLimits, SocketProbe, UnitSpec

__all__ = ["tpm_unit"]

_MEMORY_BYTES = 53 << 20  # as KubeVirt reckons it


def tpm_unit(spec: QemuSpec, state: Path) -> UnitSpec:
    """The TPM of `spec`, whose secrets are in the folder `state` (0700, the machine's user, who must be able to reach it). Pure.

    It has to be ready before QEMU starts, and ends with it, so it is stopped and started anew with each start of the machine; `state` keeps
    what the guest has put into it. It is made at the first start.
    """
    if spec.tpm is None:
        raise Bug(f"machine {spec.name} has no TPM")
    return UnitSpec(
        name=f"{spec.name}-tpm",
        argv=(
            *("swtpm", "socket", "--tpm2"),
            *("--tpmstate", f"dir={state},mode=0600"),
            *("--ctrl", f"type=unixio,path={spec.tpm},mode=0600"),
        ),
        netns=spec.netns,
        uid=spec.user,
        gid=spec.user,
        cgroup=CgroupLimits(memory_bytes=_MEMORY_BYTES, pids=16),
        log_path=spec.log.with_name("tpm.log"),
        ready=SocketProbe(path=spec.tpm),
        restart="never",
    )
