"""Becomes the process of a unit. Run as `python -I -S launch.py`, imports nothing but the standard library.

It gets one JSON document on its standard input and does, in this order: enter the control groups, open the descriptors that the unit is
handed, enter the network namespace, write the record with its own identity, open the log, drop to the unit's user, and exec. Since
the record is written before the program begins, no crash of anybody leaves a process that is not known. Descriptors:

    0   the document
    3   a pipe: text in it says why the unit could not start; closed by a successful exec
    4   the unit's lock, held until exec
    10  and up: files and tap devices for the program
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

REPORT_FD, LOCK_FD, FIRST_DESCRIPTOR = 3, 4, 10
CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 4, 8, 38, 47, 2
CAPABILITY_VERSION, CAP_SYS_ADMIN = 0x20080522, 21
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000


def main() -> None:
    """Read the document and become the program; reports the first error and exits with code 127."""
    os.set_inheritable(REPORT_FD, False)
    os.set_inheritable(LOCK_FD, False)
    os.closerange(LOCK_FD + 1, 65536)
    try:
        start(json.loads(sys.stdin.buffer.read()))
    except (OSError, ValueError, OverflowError) as e:
        os.write(REPORT_FD, str(e).encode())
        os._exit(127)


def start(document: dict[str, Any]) -> None:
    """Everything up to exec; does not return."""
    for entry in document["cgroups"]:
        Path(entry).write_text("0", encoding="ascii")
    libc = ctypes.CDLL(None, use_errno=True)
    for number, wanted in enumerate(document["descriptors"], FIRST_DESCRIPTOR):
        descriptor = open_tap(libc, wanted) if "tap" in wanted else open_file(wanted)
        os.dup2(descriptor, number, inheritable=True)
    if document["netns"]:
        enter(libc, document["netns"])
    write_record(Path(document["record_path"]), document["record"])

    log = os.open(document["log_path"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target, inheritable=True)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = document["nofile"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    os.umask(0o077 if document["uid"] else 0o022)
    if document["uid"]:
        hollow = document["hollow_capabilities"]
        control(libc, PR_SET_KEEPCAPS, 1 if hollow else 0)
        os.setgroups([])
        os.setresgid(document["gid"], document["gid"], document["gid"])
        os.setresuid(document["uid"], document["uid"], document["uid"])
        if hollow:
            hold_hollow(libc, hollow, document["uid"], document["gid"])
        control(libc, PR_SET_NO_NEW_PRIVS, 1)
    # Python ignores these two, and what is ignored stays so over exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(document["cwd"])
    os.execve(document["argv"][0], document["argv"], document["env"])  # noqa: S606 - this is what a launcher is for


def enter(libc: ctypes.CDLL, netns: str) -> None:
    """Go into a network namespace, by the path of its file."""
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), netns)
    finally:
        os.close(descriptor)


def hold_hollow(libc: ctypes.CDLL, capabilities: list[int], uid: int, gid: int) -> None:
    """Go into a user namespace in which there is only this user, and hold these capabilities there, over the coming exec too.

    The network namespace belongs to the host's user namespace, so not even CAP_NET_ADMIN changes anything in it.
    """
    # The right to make the namespace, also on a host that denies it to users; what else root had is given up here.
    set_capabilities(libc, 1 << CAP_SYS_ADMIN, inheritable=0)
    if libc.unshare(CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"no user namespace can be made ({os.strerror(code)}); look at /proc/sys/user/max_user_namespaces")
    # After a change of user the files of /proc/self are root's without this.
    control(libc, PR_SET_DUMPABLE, 1)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    mask = sum(1 << capability for capability in capabilities)
    set_capabilities(libc, mask, inheritable=mask)
    for capability in capabilities:
        control(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def set_capabilities(libc: ctypes.CDLL, mask: int, inheritable: int) -> None:
    """Have these capabilities, of the first 32, and no others."""
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    if libc.capset(header, struct.pack("=6I", mask, mask, inheritable, 0, 0, 0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot set capabilities: {os.strerror(code)}")


def control(libc: ctypes.CDLL, option: int, *values: int) -> None:
    """Change an attribute of this process."""
    if libc.prctl(option, *values, *[0] * (4 - len(values))) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option} is refused: {os.strerror(code)}")


def open_file(wanted: dict[str, Any]) -> int:
    """A descriptor high enough that no later dup2 meets it; it goes with exec."""
    flags = os.O_RDWR if wanted["writable"] else os.O_RDONLY
    if wanted["append"]:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return raised(os.open(wanted["path"], flags | os.O_CLOEXEC, 0o640))


def open_tap(libc: ctypes.CDLL, wanted: dict[str, Any]) -> int:
    """A queue of a tap device, like `open_file`; it stays with its device wherever the process goes. Ends in the namespace it began in."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if wanted["netns"]:
        enter(libc, wanted["netns"])
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    # Only a device that is there: the ioctl would make one that vanishes with this process.
    if wanted["tap"] not in interfaces():
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"tap {wanted['tap']} in {wanted['netns']}")
    request = struct.pack("16sH22x", wanted["tap"].encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    if libc.setns(home, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot go back to the network namespace")
    os.close(home)
    return raised(descriptor)


def interfaces() -> list[str]:
    """Names of the links in the network namespace of this process."""
    lines = Path("/proc/self/net/dev").read_text(encoding="ascii").splitlines()
    return [line.partition(":")[0].strip() for line in lines[2:]]


def raised(descriptor: int) -> int:
    """The same file under a high number."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 1000)
    os.close(descriptor)
    return high


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Complete the record with this process's identity and put it in place."""
    stat = Path("/proc/self/stat").read_bytes()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    record["process"] = {"boot": boot, "pid": os.getpid(), "started": int(stat[stat.rindex(b")") + 2 :].split()[19])}
    temporary = path.with_name(f".{path.name}.new")  # the lock is held: nobody else is at work on it
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file)
    temporary.rename(path)


if __name__ == "__main__":
    main()
