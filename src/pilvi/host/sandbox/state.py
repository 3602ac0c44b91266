"""The state directory of a sandbox: its writable layer, private files and the document for `sandbox-enter`.

    sandbox.json   the document
    layer/         the writable layer (overlay's upper)
    work/          overlay's work folder
    mount/         where the root is assembled, inside the sandbox's own mount namespace only
    files/         private files, bound over paths of the sandbox
    console.log    what PID 1 prints

The layer appears by one rename when it is complete, so a crash leaves either no layer or a whole one. All functions
block for a few milliseconds of file work; callers in an event loop use a thread.
"""

import os
import stat
from pathlib import Path

import msgspec

from pilvi.host import codec
from pilvi.host.sandbox.spec import Bind, SandboxFile, SandboxSpec, Tmpfs
from pilvi.lib.files import remove_tree


class _Document(msgspec.Struct, rename="camel"):
    """What `sandbox-enter` reads; the Go side has the same struct."""

    hostname: str
    root: Path
    layer: Path
    work: Path
    mount: Path
    init: tuple[str, ...]
    environment: tuple[str, ...]
    tmpfs: list["_Tmpfs"]
    binds: list["_Bind"]


class _Tmpfs(msgspec.Struct):
    target: Path
    options: str


class _Bind(msgspec.Struct, rename="camel"):
    source: Path
    target: Path
    read_only: bool
    shared: bool


def prepare_sandbox(spec: SandboxSpec) -> None:
    """Make or complete the state directory; may be called again at any time, also while the sandbox runs.

    An existing writable layer is never touched. Raises OSError when the file system refuses (disk full, no rights).
    """
    spec.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (spec.state / "work", spec.state / "mount", spec.state / "files"):
        folder.mkdir(mode=0o755, exist_ok=True)
    if not spec.layer.exists():
        _make_layer(spec)
    private = [
        Bind(source=_write_private(spec.state / "files", index, file), target=file.path) for index, file in enumerate(spec.private_files)
    ]
    _replace(spec.document, codec.encode(_document(spec, private)), 0o600)


def remove_sandbox(state: Path) -> None:
    """Remove the state directory and all in it; nothing to do when it is gone. The sandbox's unit must have ended."""
    # Renamed first, so that a removal cut short is never taken for a usable machine.
    doomed = state.with_name(f".{state.name}.removed")
    remove_tree(doomed)
    if state.exists():
        state.rename(doomed)
        remove_tree(doomed)


def _document(spec: SandboxSpec, private: list[Bind]) -> _Document:
    return _Document(
        hostname=spec.hostname,
        root=spec.root,
        layer=spec.layer,
        work=spec.state / "work",
        mount=spec.state / "mount",
        init=spec.init,
        environment=tuple(f"{name}={value}" for name, value in sorted(spec.environment.items())),
        tmpfs=[_Tmpfs(entry.target, _tmpfs_options(entry)) for entry in spec.tmpfs],
        binds=[_Bind(bind.source, bind.target, bind.read_only, bind.shared) for bind in (*spec.binds, *private)],
    )


def _tmpfs_options(entry: Tmpfs) -> str:
    size = "" if entry.size_bytes is None else f",size={entry.size_bytes}"
    return f"mode={entry.mode:o}{size}"


def _make_layer(spec: SandboxSpec) -> None:
    unfinished = spec.state / "layer.new"
    remove_tree(unfinished)
    unfinished.mkdir(mode=0o755)
    for file in spec.layer_files:
        _copy_folder_modes(spec.root, unfinished, file.path.relative_to("/").parent)
        _write_synced(unfinished / file.path.relative_to("/"), file.content, file.mode)
    unfinished.rename(spec.layer)


def _write_synced(path: Path, content: bytes, mode: int) -> None:
    """Nobody writes this file again: seen empty after a power cut, it would stay so."""
    with open(path, "wb") as stream:
        stream.write(content)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())


def _copy_folder_modes(root: Path, layer: Path, folder: Path) -> None:
    """Make `folder` in the layer with the owner and mode that it has in the root: overlay shows the layer's."""
    for part in (*reversed(folder.parents), folder):
        made = layer / part
        if made.exists():
            continue
        made.mkdir(mode=0o755)
        below = root / part
        if below.is_dir():
            info = below.stat()
            made.chmod(stat.S_IMODE(info.st_mode))
            os.chown(made, info.st_uid, info.st_gid)


def _write_private(folder: Path, index: int, file: SandboxFile) -> Path:
    path = folder / f"{index:02}-{file.path.name}"
    _replace(path, file.content, file.mode)
    return path


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write by rename: a running sandbox keeps the file that it has bound, and no reader sees half a file.

    Not synced to disk, unlike `lib.files.write_atomic`: every start writes these files anew, and there are many.
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    temporary.chmod(mode)
    temporary.rename(path)
