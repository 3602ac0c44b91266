"""containerd's state with images already unpacked: made once per node image, copied by hard links into each machine.

Made by a containerd that only imports: a state taken from a machine that ran pods would cost each new machine half a minute of
clean-up.
"""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pilvi.errors import DriverError, TimedOut
from pilvi.lib.files import remove_tree
from pilvi.lib.run import run

IMPORT_TIMEOUT_S = 120.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

_POLL_S = 0.05
_CONFIG, _LOG = "config.toml", "containerd.log"
_TEMPLATE_CONFIG = """version = 3
root = "{root}"
state = "{run}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{run}/containerd.sock"
"""


async def make_containerd_state(root: Path, archives: Sequence[Path], containerd: Path, ctr: Path) -> None:
    """Import OCI image archives into a new containerd state at `root`, which must not exist.

    Runs as root on a file system that overlay accepts below. Raises DriverError when containerd or an import fails; `root` then
    holds a part and is to be removed.
    """
    # A short path: socket addresses end at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pilvi-", dir="/run") as name:
        folder = Path(name)
        output = _open_folder(root, folder)
        try:
            # Not lib.run: it serves while the imports run and must end by SIGTERM, or its databases are left half-written.
            process = await asyncio.create_subprocess_exec(
                containerd,
                "--config",
                folder / _CONFIG,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        command: tuple[str | Path, ...] = (ctr, "--address", folder / "containerd.sock")
        try:
            await _wait_until_served(process, command, folder / _LOG)
            for archive in archives:
                await run([*command, "--namespace", "k8s.io", "images", "import", archive], timeout_s=IMPORT_TIMEOUT_S)
        finally:
            await _end(process)


def _open_folder(root: Path, folder: Path) -> int:
    """Write the configuration; return the descriptor of the log. Short, on a memory file system."""
    root.mkdir(mode=0o711)
    (folder / _CONFIG).write_text(_TEMPLATE_CONFIG.format(root=root, run=folder))
    return os.open(folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def copy_containerd_state(template: Path, target: Path) -> None:
    """Make `target` a copy of a template state whose files are hard links; the databases, which are written, are real copies.

    Nothing is done when `target` exists; it appears by one rename. Blocking, about 10 ms. On another file system than the
    template's every file is copied. Raises OSError.
    """
    if target.exists():
        return
    unfinished = target.with_name(f".{target.name}.new")
    remove_tree(unfinished)
    _copy_folder(template, unfinished)
    unfinished.rename(target)


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir()
    for entry in os.scandir(source):
        copy = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(Path(entry.path), copy)
        elif entry.name.endswith(".db"):
            shutil.copy2(entry.path, copy)
            _sync(copy)
        else:
            _link(entry, copy)
    # With extended attributes: overlay marks folders that hide a lower layer by one.
    shutil.copystat(source, target)
    info = source.stat()
    os.chown(target, info.st_uid, info.st_gid)


def _sync(path: Path) -> None:
    """A database that a power cut leaves empty would keep containerd from ever starting again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(entry: os.DirEntry[str], copy: Path) -> None:
    try:
        os.link(entry.path, copy, follow_symlinks=False)
    except OSError:
        # Another file system. Device nodes are how a layer marks what it deletes.
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(info.st_mode):
            os.mknod(copy, info.st_mode, info.st_rdev)
        else:
            shutil.copy2(entry.path, copy, follow_symlinks=False)
        os.chown(copy, info.st_uid, info.st_gid, follow_symlinks=False)


async def _wait_until_served(process: asyncio.subprocess.Process, ctr: Sequence[str | Path], log: Path) -> None:
    for _ in range(int(START_TIMEOUT_S / _POLL_S)):
        if (await run([*ctr, "version"], timeout_s=START_TIMEOUT_S, check=False)).code == 0:
            return
        if process.returncode is not None:
            raise DriverError(["containerd"], process.returncode, _read_tail(log))
        await asyncio.sleep(_POLL_S)
    raise TimedOut("containerd to answer while the node image is built", START_TIMEOUT_S)


def _read_tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End containerd in order; also when this task is being cancelled nothing of it stays."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), STOP_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
