"""Becomes the process of a unit. Run as `python -I -S launch.py`, imports nothing but the standard library.

It gets one JSON document on its standard input and does, in this order: enter the control groups and the network namespace, write
the record with its own identity, open the log, drop to the unit's user, and exec. Since the record is written before the program
begins, no crash of anybody leaves a process that is not known. Descriptors:

    0   the document
    3   a pipe: text in it says why the unit could not start; closed by a successful exec
    4   the unit's lock, held until exec
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

REPORT_FD, LOCK_FD = 3, 4
CLONE_NEWNET, PR_SET_NO_NEW_PRIVS = 0x40000000, 38


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
    if document["netns"]:
        descriptor = os.open(document["netns"], os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), document["netns"])
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
        os.setgroups([])
        os.setresgid(document["gid"], document["gid"], document["gid"])
        os.setresuid(document["uid"], document["uid"], document["uid"])
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot set no_new_privs")
    # Python ignores these two, and what is ignored stays so over exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(document["cwd"])
    os.execve(document["argv"][0], document["argv"], document["env"])  # noqa: S606 - this is what a launcher is for


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Complete the record with this process's identity and put it in place."""
    stat = Path("/proc/self/stat").read_bytes()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    record["process"] = {"boot": boot, "pid": os.getpid(), "started": int(stat[stat.rindex(b")") + 2 :].split()[19])}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file)
    temporary.rename(path)


if __name__ == "__main__":
    main()
