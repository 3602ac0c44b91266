"""Network namespaces with a name: bind mounts below /run/netns, as `ip netns` makes and sees them.

A namespace lives as long as its mount, a process in it, or a socket of it. All functions may be called repeatedly.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pilvi.errors import Bug, TimedOut
from pilvi.host import libc, mounts

__all__ = ["NETNS_DIR", "ensure_netns", "has_netns", "in_netns", "is_inside", "list_netns", "netns_path", "unmount_netns"]

T = TypeVar("T")

NETNS_DIR = Path("/run/netns")

# Making one takes milliseconds, on a busy host a second.
KERNEL_TIMEOUT_S = 30.0
# One thread of its own: the directory's lock lets one in at a time anyhow, and those that wait for it must not hold up other work.
_maker = ThreadPoolExecutor(1, thread_name_prefix="netns")
_shared: set[Path] = set()  # directories that this process has seen to

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def netns_path(name: str) -> Path:
    """The file to open for entering the namespace."""
    return NETNS_DIR / name


def list_netns(prefix: str = "") -> list[str]:
    """Names of all namespaces that begin with `prefix`, sorted; left-over files that no namespace is mounted on as well."""
    try:
        return sorted(name for name in os.listdir(NETNS_DIR) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def has_netns(name: str) -> bool:
    """Whether a namespace is there under that name; a mere file is none."""
    return mounts.find_mount(netns_path(name)) is not None


def is_inside(pid: int, name: str) -> bool:
    """Whether the process is in the namespace that has that name now. False without such a process or namespace."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), os.stat(netns_path(name)))
    except (FileNotFoundError, ProcessLookupError):
        return False


async def ensure_netns(name: str) -> bool:
    """Make the namespace, with its loopback up, unless it is there; returns whether it was made.

    Raises OSError when the kernel refuses, TimedOut when it takes longer than `KERNEL_TIMEOUT_S`; the namespace may then come later.
    """
    return not has_netns(name) and await _in_thread(_make, name, f"the kernel to make network namespace {name}")


async def unmount_netns(name: str) -> None:
    """Take the name away. A process that is still in the namespace keeps it alive, and so do its links: see `network.delete_netns`.

    Raises OSError and TimedOut as `ensure_netns` does.
    """
    await _in_thread(_remove, name, f"the kernel to unmount network namespace {name}")


@contextmanager
def in_netns(name: str | None) -> Iterator[None]:
    """Run the block with the calling thread inside the namespace; None means: stay where you are.

    For the event loop too: entering and leaving never wait for I/O. The block must not await, start threads or take long.
    Raises FileNotFoundError when there is no such namespace. A thread that cannot return would act in the wrong namespace from then on:
    that is a Bug.
    """
    if name is None:
        yield
        return
    with open(netns_path(name), "rb") as inside, open("/proc/thread-self/ns/net", "rb") as before:
        libc.setns(inside.fileno(), libc.CLONE_NEWNET)
        try:
            yield
        finally:
            _return(before.fileno())


def _return(fd: int) -> None:
    try:
        libc.setns(fd, libc.CLONE_NEWNET)
    except OSError as e:
        raise Bug("a thread cannot leave the network namespace that it entered") from e


async def _in_thread(function: Callable[[str], T], name: str, what: str) -> T:
    """The thread goes on after a time-out, since nothing can stop it; whoever asks again waits behind it."""
    try:
        async with asyncio.timeout(KERNEL_TIMEOUT_S) as deadline:
            return await asyncio.get_running_loop().run_in_executor(_maker, function, name)
    except TimeoutError as e:
        if not deadline.expired():
            raise
        raise TimedOut(what, KERNEL_TIMEOUT_S) from e


def _make(name: str) -> bool:
    if NETNS_DIR not in _shared:
        _share_directory()
    path = netns_path(name)
    # The lock keeps two creators of one name apart: without it both could see no mount and put two on one file.
    with _locked_directory():
        if mounts.find_mount(path) is not None:
            return False
        path.touch(mode=0o444)
        with open("/proc/thread-self/ns/net", "rb") as before:
            libc.unshare(libc.CLONE_NEWNET)
            try:
                _set_loopback_up()
                mounts.bind(Path("/proc/thread-self/ns/net"), path)
            except BaseException:
                path.unlink()
                raise
            finally:
                _return(before.fileno())
    return True


def _remove(name: str) -> None:
    path = netns_path(name)
    if not path.exists():
        return
    with _locked_directory():
        mounts.unmount(path)
        path.unlink(missing_ok=True)


def _share_directory() -> None:
    """Make /run/netns a shared mount once, as `ip netns add` does, so that unmounting reaches other mount namespaces too."""
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked_directory():
        if mounts.find_mount(NETNS_DIR) is None:
            mounts.bind(NETNS_DIR, NETNS_DIR, recursive=True)
            mounts.make_shared(NETNS_DIR)
    _shared.add(NETNS_DIR)


@contextmanager
def _locked_directory() -> Iterator[None]:
    descriptor = os.open(NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
