"""Whether guests may run under KVM, found out by booting one.

/dev/kvm can be there, make machines and even run a BIOS while a Linux kernel hangs (nested and para-virtualised hosts). So a kernel is
booted, in a process that is killed after its time. That takes seconds, and its answer holds until the host boots again.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import time
from pathlib import Path

import msgspec

from pilvi.errors import DriverError, UserError
from pilvi.host.qemu.argv import PROGRAM, SANDBOX
from pilvi.host.qemu.installed import Qemu
from pilvi.host.qemu.probe import WORD, tiny_initrd
from pilvi.host.units.identity import boot_id
from pilvi.lib.disk import on_disk
from pilvi.lib.files import find_json, write_json
from pilvi.lib.run import run

__all__ = ["KVM_ANSWER", "KVM_DEVICE", "Trial", "find_kernel", "kvm_group", "probe_kvm", "try_boot"]

KVM_DEVICE = Path("/dev/kvm")
KVM_ANSWER = "kvm.json"
"""What the file that keeps the answer is called, in the folder that all clouds of a host share."""
_TIMEOUT_S = 20.0
_OPEN_BITS = {"owner": stat.S_IRUSR | stat.S_IWUSR, "group": stat.S_IRGRP | stat.S_IWGRP, "all": stat.S_IROTH | stat.S_IWOTH}


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """`works` says whether guests run under KVM, `reason` why, for people. `key` tells what was tried."""

    works: bool
    reason: str
    key: str = ""


def find_kernel(folder: Path = Path("/boot")) -> Path | None:
    """The newest kernel of the host itself, which is as good as any; None when it has none."""
    kernels = [path for path in folder.glob("vmlinuz-*") if path.is_file()]
    return max(kernels, key=lambda path: path.stat().st_mtime, default=None)


def kvm_group(device: Path = KVM_DEVICE) -> int | None:
    """The group that a machine's process has to be in to open `device`; None when it needs none."""
    info = device.stat()
    return None if _is_open(info.st_mode, "all") else info.st_gid


async def probe_kvm(
    qemu: Qemu, kernel: Path | None, kept: Path, *, user: int, device: Path = KVM_DEVICE, timeout_s: float = _TIMEOUT_S
) -> Trial:
    """Whether a guest of `user` runs under KVM here: `kernel` is booted once for each boot of the host, kernel and version of QEMU.

    `kept` is the file that remembers the answer. An answer that was found without trying is not kept: what it lacks may come.
    Raises OSError when the disk refuses.
    """
    obstacle = _find_obstacle(device, user)
    if obstacle is not None:
        return Trial(works=False, reason=obstacle)
    if kernel is None:
        return Trial(works=False, reason="not tried: there is no kernel to boot")
    key = f"{boot_id()} {os.uname().release} {qemu.version}"
    try:
        found = msgspec.convert(find_json(kept), Trial | None)
    except (msgspec.ValidationError, UserError):
        found = None
    if found is not None and found.key == key:
        return found
    trial = await try_boot(kernel, accelerator="kvm", user=user, group=kvm_group(device), timeout_s=timeout_s)
    trial = msgspec.structs.replace(trial, key=key)
    await on_disk(_keep, kept, trial)
    return trial


async def try_boot(kernel: Path, *, accelerator: str, user: int, group: int | None, timeout_s: float = _TIMEOUT_S) -> Trial:
    """Boot `kernel` with a first process that says a word and powers off. Nothing of it is left afterwards. Raises OSError."""
    folder = await on_disk(_make_files, kernel, user)
    arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", SANDBOX, "-m", "256", "-serial", "stdio"]
    arguments += ["-machine", "q35", "-accel", accelerator, "-cpu", "host" if accelerator == "kvm" else "max"]
    arguments += ["-kernel", str(folder / "kernel"), "-initrd", str(folder / "initrd"), "-append", "console=ttyS0 panic=-1"]
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user if group is None else group}", "--clear-groups", "--no-new-privs", "--"]
    began = time.monotonic()
    try:
        done = await run([*as_user, PROGRAM, *arguments], timeout_s=timeout_s, check=False)
    except DriverError as e:
        ended = f"did not end within {timeout_s:g} s" if e.code == -signal.SIGKILL else f"could not be started: {e}"
        return Trial(works=False, reason=f"a kernel that was booted on trial {ended}")
    finally:
        await on_disk(shutil.rmtree, folder, ignore_errors=True)
    if WORD.decode().strip() in done.stdout:
        return Trial(works=True, reason=f"a kernel booted within {time.monotonic() - began:.1f} s")
    last = done.stderr.strip().splitlines()[-1:] or done.stdout.strip().splitlines()[-1:] or ["it said nothing"]
    how = f"by {signal.Signals(-done.code).name}" if done.code < 0 else f"with exit code {done.code}"
    return Trial(works=False, reason=f"a kernel that was booted on trial ended {how}: {last[0][:200]}")


def _keep(path: Path, trial: Trial) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, trial, mode=0o644)


def _find_obstacle(device: Path, user: int) -> str | None:
    try:
        info = device.stat()
    except OSError:
        return f"there is no {device}"
    if user != 0 and not _is_open(info.st_mode, "all") and not (info.st_gid != 0 and _is_open(info.st_mode, "group")):
        return f"{device} is closed to machines: `sudo chgrp kvm {device} && sudo chmod 660 {device}` opens it"
    return None


def _make_files(kernel: Path, user: int) -> Path:
    """A folder of that user with the kernel, which may be readable by root alone, and the initrd."""
    folder = Path(tempfile.mkdtemp(prefix="pilvi-probe-"))
    try:
        shutil.copyfile(kernel, folder / "kernel")
        (folder / "initrd").write_bytes(tiny_initrd())
        for path in (folder, folder / "kernel", folder / "initrd"):
            os.chown(path, user, user)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _is_open(mode: int, to: str) -> bool:
    return mode & _OPEN_BITS[to] == _OPEN_BITS[to]
