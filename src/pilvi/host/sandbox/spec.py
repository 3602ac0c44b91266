"""What one sandbox is, as data, and the document that the `sandbox-enter` binary reads."""

from pathlib import Path

import msgspec


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder of the host that the sandbox sees at `target`.

    `shared` gives it shared mount propagation inside the sandbox (what the kubelet needs for its folder).
    """

    source: Path
    target: Path
    read_only: bool = False
    shared: bool = False


class SandboxFile(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file with the content that the sandbox starts with."""

    path: Path
    content: bytes
    mode: int = 0o644


class Tmpfs(msgspec.Struct, frozen=True, kw_only=True):
    """A memory file system, empty at every start. `size_bytes` None means the kernel's default (half the memory)."""

    target: Path
    mode: int = 0o755
    size_bytes: int | None = None


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A root file system with its own init, run as one unit.

    `root` is only read; all writes go to a layer below `state`, which must be on a file system that overlay accepts as an
    upper layer (not overlay itself). `netns` is the name of a ready network namespace. `init` is the argv of PID 1.

    `cpus` is how many processors it shows; it may take as much time as these have, or `cpu_milli` thousandths of a processor.

    `layer_files` are written into the writable layer once, when it is made; the sandbox owns them from then on.
    `private_files` are bound over paths that must exist in the root, in /proc or in /sys; they are renewed by every
    `prepare_sandbox`, and what the sandbox writes into them reaches nobody else.
    """

    name: str
    root: Path
    state: Path
    hostname: str
    init: tuple[str, ...]
    netns: str
    memory_bytes: int
    cpus: int
    environment: dict[str, str] = {}
    binds: tuple[Bind, ...] = ()
    layer_files: tuple[SandboxFile, ...] = ()
    private_files: tuple[SandboxFile, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = (Tmpfs(target=Path("/run")), Tmpfs(target=Path("/tmp"), mode=0o1777))  # noqa: S108 - the sandbox's own
    cpu_milli: int | None = None
    stop_grace_s: float = 20.0

    @property
    def layer(self) -> Path:
        """The writable layer: what the sandbox changed in its root, readable from the host at any time."""
        return self.state / "layer"

    @property
    def document(self) -> Path:
        """The file that tells `sandbox-enter` what to do."""
        return self.state / "sandbox.json"

    @property
    def log(self) -> Path:
        """What PID 1 prints."""
        return self.state / "console.log"
