"""A sandbox as one unit: the process that the unit starts is `sandbox-enter`, the parent of the sandbox's PID 1."""

from pathlib import Path

from pilvi.host.cloud import Cloud
from pilvi.host.sandbox.spec import SandboxSpec
from pilvi.host.units import CgroupLimits, UnitSpec


def sandbox_unit(cloud: Cloud, spec: SandboxSpec, enter: Path) -> UnitSpec:
    """The unit that runs `spec` in `cloud`; `enter` is the kit's `sandbox-enter` binary. Pure.

    SIGTERM goes on to PID 1; its exit code is the unit's. When the unit's process dies in any way, nothing of the sandbox
    lives on. `prepare_sandbox` must have run before the unit starts.
    """
    cpu_milli = spec.cpus * 1000
    return UnitSpec(
        name=spec.name,
        argv=(str(enter), str(spec.document)),
        netns=spec.netns,
        cgroup=CgroupLimits(memory_bytes=spec.memory_bytes, cpu_milli=min(cpu_milli, spec.cpu_milli or cpu_milli)),
        log_path=spec.log,
        restart="always",
        stop_grace_s=spec.stop_grace_s,
    )
