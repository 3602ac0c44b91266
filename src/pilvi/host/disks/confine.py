"""The cage for programs that read images of strangers: a flaw in a program's parser must not reach anything but that image.

`confined` gives a command that starts this file as a script (stdlib only), which ties its own hands and becomes the program: it ends with
its parent, gains no privileges and loses those of root, has bounds of memory, processor time and file size, and by Landlock, where
the kernel has it (Linux 5.13), opens no other file than those named and the system's programs and libraries, and no TCP connection.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # as a script it loads as little as it can
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["confined", "is_full"]

MEMORY_BYTES = 2 << 30
CPU_S = 6 * 3600

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/dev/null", "/dev/urandom")

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE, _READ, _READ_FOLDER, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_TCP = 0b11
_PATH_BENEATH = 1


def confined(
    argv: Sequence[str | os.PathLike[str]], *, read: Sequence[Path], write: Sequence[Path] = (), largest_bytes: int = 0
) -> list[str]:
    """The command that runs `argv` so that it can read these files, and write to those, which have to be there, up to that size each."""
    import shutil  # noqa: PLC0415 (not for the script)

    program = shutil.which(os.fspath(argv[0])) or os.fspath(argv[0])
    files = [f"r{path.absolute()}" for path in read] + [f"w{path.absolute()}" for path in write]
    words = [program, *(os.fspath(word) for word in argv[1:])]
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(largest_bytes), *files, "--", *words]


def is_full(error: Exception) -> bool:
    """Whether a program failed for want of space; programs say that in words only."""
    text = str(error)
    return any(os.strerror(code) in text for code in (errno.ENOSPC, errno.EDQUOT))


def main(words: list[str]) -> None:
    """Become the program. `words`: pid of the parent, largest file, files with `r` or `w` before them, `--`, the program with arguments."""
    parent, largest = int(words[0]), int(words[1])
    end = words.index("--")
    files, argv = words[2:end], words[end + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    _must(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:  # it ended before the line above
        sys.exit(1)
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    if os.geteuid() == 0:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            last = int(file.read())
        for capability in range(last + 1):
            _must(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0))
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _landlock(libc, argv[0], files)
    os.execv(argv[0], argv)  # noqa: S606 (no shell: that is the point)


def _landlock(libc: ctypes.CDLL, program: str, files: list[str]) -> None:
    """See landlock(7). What this kernel does not know is left out."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return
    known = (1 << (13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16)) - 1
    handled = struct.pack("=QQ", known, _TCP if version >= 4 else 0)
    rules = _must(libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(16 if version >= 4 else 8), ctypes.c_uint32(0)))
    allowed = [(path, _READ | _EXECUTE | _READ_FOLDER) for path in (*_SYSTEM, os.path.realpath(program))]
    allowed += [(name[1:], _READ if name[0] == "r" else _READ | _WRITE | _TRUNCATE) for name in files]
    for path, rights in allowed:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            if path in _SYSTEM:
                continue
            raise
        for_kind = known if os.path.isdir(path) else known & ~_READ_FOLDER
        rule = struct.pack("=Qi", rights & for_kind, fd)
        _must(libc.syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)))
        os.close(fd)
    _must(libc.syscall(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)))
    os.close(rules)


def _must(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
