"""Files that give a sandbox its own view of what the kernel shows alike to all: memory size, processors, host-wide settings."""

from pathlib import Path

from pilvi.host.sandbox.spec import SandboxFile

_PROC_SYS = Path("/proc/sys")


def meminfo_file(memory_bytes: int) -> SandboxFile:
    """A /proc/meminfo of a machine with `memory_bytes` of memory and no swap.

    Programs read the total by this absolute path to learn the size of the machine. What is free is not shown truly; the memory
    cgroup holds the real limit.
    """
    total_kib = memory_bytes // 1024
    fields = {
        "MemTotal": total_kib,
        "MemFree": total_kib,
        "MemAvailable": total_kib,
        "Buffers": 0,
        "Cached": 0,
        "SwapTotal": 0,
        "SwapFree": 0,
    }
    lines = "".join(f"{f'{name}:':<16}{kib:>8} kB\n" for name, kib in fields.items())
    return SandboxFile(path=Path("/proc/meminfo"), content=lines.encode(), mode=0o444)


def cpuinfo_file(cpus: int, host_cpuinfo: str) -> SandboxFile:
    """A /proc/cpuinfo with `cpus` processors, each like the host's first one (`host_cpuinfo` is the host's file)."""
    first = host_cpuinfo.split("\n\n", 1)[0].splitlines()
    blocks = [_renumbered(first, number) for number in range(cpus)]
    return SandboxFile(path=Path("/proc/cpuinfo"), content="".join(blocks).encode(), mode=0o444)


def private_sysctls(names: tuple[str, ...], proc_sys: Path = _PROC_SYS) -> tuple[SandboxFile, ...]:
    """Private files over host-wide settings, such as `vm.overcommit_memory`, with the host's present values.

    Writing them inside succeeds and reads back, and changes nothing on the host. A setting that this kernel does not have is
    left out. Raises OSError when one cannot be read.
    """
    files = []
    for name in names:
        relative = name.replace(".", "/")
        if (proc_sys / relative).exists():
            files.append(SandboxFile(path=_PROC_SYS / relative, content=(proc_sys / relative).read_bytes()))
    return tuple(files)


def _renumbered(block: list[str], number: int) -> str:
    numbered = {"processor", "core id", "apicid", "initial apicid"}
    lines = []
    for line in block:
        key = line.partition(":")[0].strip()
        lines.append(f"{line.partition(':')[0]}: {number}\n" if key in numbered else f"{line}\n")
    return "".join(lines) + "\n"
