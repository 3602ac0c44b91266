"""What this host must have, found out by trying, with the command that mends what is missing. `pilvi doctor` and `pilvi up` ask."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Awaitable, Iterable
from ipaddress import IPv4Interface
from pathlib import Path
from secrets import token_hex

import msgspec

from pilvi.errors import DriverError, UserError, format_chain
from pilvi.host import nft
from pilvi.host.cgroups import find_cgroups
from pilvi.host.network import Address, Bridge, NamespaceNetwork, Veth, VethEnd, delete_netns, ensure_netns, ensure_network, ensure_veth
from pilvi.host.qemu.accelerator import find_kernel, probe_kvm
from pilvi.host.qemu.installed import find_qemu, find_uefi

__all__ = ["Finding", "check_host", "check_machines", "check_traversable"]

OLDEST_KERNEL = (5, 18)
"""The first that marks addresses with a protocol number."""

_PROGRAMS = {"nft": "nftables", "nsenter": "util-linux"}
_MACHINE_PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "swtpm": "swtpm"}
_NOBODY = 65534
_MANY_INOTIFY_INSTANCES = 1024


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `fix` is a command, or what to do; empty when all is well."""

    name: str
    is_ok: bool
    message: str
    fix: str = ""


async def check_host() -> list[Finding]:
    """Everything that the host layer needs. Makes a network namespace for the trial and removes it."""
    if os.geteuid() != 0:
        return [Finding("root", False, "not running as root", "run it with sudo")]
    findings = [Finding("root", True, "running as root"), *check_programs(_PROGRAMS), *_check_kernel_files()]
    if all(finding.is_ok for finding in findings if finding.name in _PROGRAMS):
        findings += await _try_network()
    return findings


async def check_machines(kept: Path) -> list[Finding]:
    """What virtual machines need. KVM is tried by booting a kernel, and the answer kept in the file `kept`; that it does not work is only
    noted, since machines run without it, several times slower.
    """  # fmt: skip
    if os.geteuid() != 0:
        return []  # said once, by `check_host`
    findings = check_programs(_MACHINE_PROGRAMS)
    if find_uefi(secure_boot=False) is None:
        findings.append(Finding("uefi", False, "no UEFI firmware for machines", "sudo apt-get install ovmf"))
    else:
        findings.append(Finding("uefi", True, "UEFI firmware for machines"))
    try:
        qemu = await find_qemu()
        if qemu is not None:
            trial = await probe_kvm(qemu, find_kernel(), kept, user=_NOBODY)
            note = "" if trial.works else "; machines are emulated, which is several times slower"
            findings.append(Finding("kvm", True, f"KVM {'works' if trial.works else 'is not used'}: {trial.reason}{note}"))
    except (DriverError, UserError, OSError) as e:
        findings.append(Finding("qemu", False, format_chain(e), "sudo apt-get install --reinstall qemu-system-x86"))
    return findings


def check_kernel(release: str) -> Finding:
    """Whether `release` (as `uname -r` prints it) is new enough. Pure."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    is_ok = major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= OLDEST_KERNEL
    wanted = ".".join(map(str, OLDEST_KERNEL))
    return Finding("kernel", is_ok, f"kernel {release}", "" if is_ok else f"install a kernel of version {wanted} or newer")


def check_programs(programs: dict[str, str], path: str | None = None) -> list[Finding]:
    """Whether each program (name, Debian package) is there; `path` is where to look, as PATH."""
    findings = []
    for name, package in programs.items():
        found = shutil.which(name, path=path)
        findings.append(Finding(name, found is not None, found or f"no program {name}", "" if found else f"sudo apt-get install {package}"))
    return findings


def check_filesystems(text: str) -> list[Finding]:
    """Whether /proc/filesystems names what is needed. Pure."""
    known = {line.split()[-1] for line in text.splitlines() if line}
    return [
        Finding(
            name,
            name in known,
            f"file system {name}" + ("" if name in known else " is missing"),
            "" if name in known else f"sudo modprobe {name}",
        )
        for name in ("overlay", "tmpfs")
    ]


def check_inotify(text: str) -> Finding:
    """The limit of inotify instances, which all sandboxes share. Pure. A low one is only noted: `pilvi up` raises it by itself."""
    number = int(text)
    note = "" if number >= _MANY_INOTIFY_INSTANCES else "; sudo pilvi up raises that by itself"
    return Finding("inotify", True, f"{number} inotify instances{note}")


def check_traversable(name: str, path: Path, uids: Iterable[int] = ()) -> Finding:
    """Whether units, which have uids of their own, can reach `path`: each folder on the way must let others pass.

    `name` is what the finding is called.

    A folder that belongs to one of `uids` passes too. What does not exist yet is not judged.
    """
    allowed = set(uids)
    for folder in (*reversed(path.absolute().parents), path.absolute()):
        try:
            info = folder.stat()
        except FileNotFoundError:
            break
        except NotADirectoryError:
            return Finding(name, False, f"{folder.parent} is not a folder", "choose another path")
        if stat.S_ISDIR(info.st_mode) and not info.st_mode & stat.S_IXOTH and info.st_uid not in allowed:
            return Finding(name, False, f"the users of units cannot reach {path}: {folder} is closed to them", f"sudo chmod o+x {folder}")
    return Finding(name, True, f"{path} can be reached")


def _check_kernel_files() -> list[Finding]:
    return [
        check_kernel(os.uname().release),
        _check_cgroups(),
        *check_filesystems(Path("/proc/filesystems").read_text(encoding="ascii")),
        _check_loop(Path("/dev/loop-control")),
        check_inotify(Path("/proc/sys/fs/inotify/max_user_instances").read_text(encoding="ascii")),
        check_user_namespaces(Path("/proc/sys/user/max_user_namespaces")),
    ]


def _check_cgroups() -> Finding:
    found = find_cgroups()
    if found is None:
        return Finding("cgroups", False, "no control groups with a memory controller", "sudo mount -t cgroup2 none /sys/fs/cgroup")
    return Finding("cgroups", True, f"control groups version {found.version}")


def _check_loop(control: Path) -> Finding:
    is_ok = control.exists()
    return Finding("loop", is_ok, "loop devices" if is_ok else f"no {control}", "" if is_ok else "sudo modprobe loop")


def check_user_namespaces(limit: Path) -> Finding:
    """Virtual machines get their addresses from a process that is in one."""
    name = "user namespaces"
    if not limit.exists():
        return Finding(name, False, "the kernel has no user namespaces", "use a kernel with CONFIG_USER_NS")
    is_ok = int(limit.read_text(encoding="ascii")) > 0
    fix = "" if is_ok else "sudo sysctl user.max_user_namespaces=10000"
    return Finding(name, is_ok, name if is_ok else f"{limit} allows none", fix)


async def _try_network() -> list[Finding]:
    """Make one of each for real: what a kernel can do, its configuration does not always tell."""
    name = f"pv-doctor-{token_hex(4)}"
    try:
        await ensure_netns(name)
    except OSError as e:
        fix = "in a container, start it with --privileged" if e.errno == errno.EPERM else "use a kernel with CONFIG_NET_NS"
        return [Finding("namespaces", False, format_chain(e), fix)]
    findings = [Finding("namespaces", True, "network namespaces")]
    bridge = NamespaceNetwork(netns=name, bridges=(Bridge("br0"),), addresses=(Address("br0", IPv4Interface("10.0.0.1/24")),))
    veth = Veth(a=VethEnd(netns=name, name="a"), b=VethEnd(netns=name, name="b", master="br0"))
    rules = nft.table(
        "doctor",
        [
            nft.chain("out", type="nat", hook="postrouting", priority=100),
            nft.rule("out", nft.match("oifname", "a"), {"masquerade": None}),
            nft.chain("in", hook="prerouting"),
            nft.rule("in", nft.KNOWN, nft.match({"fib": {"result": "type", "flags": "daddr"}}, "local"), nft.DROP),
        ],
    )
    of_taps = nft.match("iifkind", "tun")
    frames = nft.table("doctor", [nft.chain("in", hook="prerouting"), nft.rule("in", of_taps, nft.DROP)], family="bridge")
    try:
        findings.append(await _try("bridge", "bridge", ensure_network(bridge)))
        findings.append(await _try("veth", "veth", ensure_veth(veth)))
        findings.append(await _try("nftables", "nf_tables nft_chain_nat nft_masq nft_ct nft_fib_inet", nft.apply(name, [rules])))
        findings.append(await _try("nftables on bridges", "nf_tables", nft.apply(name, [frames])))
    finally:
        await delete_netns(name)
    return findings


async def _try(what: str, modules: str, trial: Awaitable[None]) -> Finding:
    try:
        await trial
    except (DriverError, UserError, OSError) as e:
        return Finding(what, False, format_chain(e), f"sudo modprobe -a {modules}")
    return Finding(what, True, what)
