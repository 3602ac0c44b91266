"""Everything that a host needs to be a cloud, with the command that mends what is missing."""

import shutil
from pathlib import Path

from pilvi import kit
from pilvi.errors import UserError
from pilvi.host.checks import Finding, check_host, check_machines, check_programs, check_traversable
from pilvi.host.cloud import Cloud
from pilvi.host.qemu.accelerator import KVM_ANSWER
from pilvi.host.settings import ensure_setting
from pilvi.node.images import list_images

# Program -> Debian package, beyond what the host layer itself runs.
PROGRAMS = {"dnsmasq": "dnsmasq-base"}
SMALLEST_MEMORY_BYTES = 3_500_000_000  # a machine sold with 4 GB shows a little less
FREE_DISK_BYTES = 2 << 30

# Shared by all sandboxes of the host: containerd, kubelet and every watching pod take instances.
HOST_SETTINGS = (
    ("net.ipv4.ip_forward", "1", False),
    ("fs.inotify.max_user_instances", "8192", True),
    ("fs.inotify.max_user_watches", "524288", True),
)


async def examine(home: Path) -> list[Finding]:
    """Look at the whole host; makes and removes what it tries out. Complete only for root."""
    findings = await check_host()
    findings += check_programs(PROGRAMS)
    findings += await check_machines(kit.get_folder() / KVM_ANSWER)
    findings.append(_memory())
    findings.append(_disk(home))
    findings += _reachable(home)
    findings += [_artefact(listed.name, listed.state) for listed in kit.list_artefacts() if listed.state != "stale"]
    findings += [_artefact(f"node image {image.version}", image.state) for image in list_images() if image.state != "stale"]
    return findings


async def require_host(home: Path) -> None:
    """Raise UserError, naming every obstacle and its remedy, unless a cloud can run here."""
    findings = [*await check_host(), *check_programs(PROGRAMS), _disk(home), *_reachable(home)]
    obstacles = [finding for finding in findings if not finding.is_ok]
    if obstacles:
        raise UserError(
            "this host cannot be a cloud yet: " + "; ".join(finding.message for finding in obstacles),
            hint="\n  ".join(finding.fix for finding in obstacles if finding.fix),
        )


def ensure_host_settings(cloud: Cloud) -> None:
    """Change the kernel settings that the cloud needs; the last cloud's purge puts them back. Raises UserError."""
    for name, value, at_least in HOST_SETTINGS:
        ensure_setting(cloud.id, name, value, at_least=at_least)


def _reachable(home: Path) -> list[Finding]:
    return [check_traversable("home", home), check_traversable("kit's folder", kit.get_folder())]


def _memory() -> Finding:
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    total = next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemTotal:"))
    is_ok = total >= SMALLEST_MEMORY_BYTES
    return Finding("memory", is_ok, f"{total / 2**30:.1f} GiB of memory", "" if is_ok else "a cloud with one cluster needs 4 GiB")


def _disk(home: Path) -> Finding:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    is_ok = free >= FREE_DISK_BYTES
    fix = "" if is_ok else f"free {FREE_DISK_BYTES >> 30} GiB there, or choose another --home"
    return Finding("disk", is_ok, f"{free / 2**30:.1f} GiB free at {place}", fix)


def _artefact(name: str, state: str) -> Finding:
    is_ok = state == "built"
    return Finding(f"kit: {name}", is_ok, "built" if is_ok else "not built", "" if is_ok else "pilvi kit build")
