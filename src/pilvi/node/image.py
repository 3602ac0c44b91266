"""Builds the node image: a root tree with a Kubernetes node's programs, and a containerd state with its images unpacked.

The artefact is a folder `node-image-<version>-<hash>` of the kit with `root`, `containerd` and `image.json`. It is built under another
name and renamed when complete; the hash covers everything that goes in. Nothing in it is ever written again: machines lay their own
layer over the root.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pilvi.lib.files import remove_tree, write_json
from pilvi.lib.run import run
from pilvi.node.containerd_state import make_containerd_state
from pilvi.node.debian import debian_sources
from pilvi.node.reference import MANIFEST, NodeImage

SUITE = "bookworm"
# What kubeadm, the kubelet, kube-proxy's rules, runc and the CNI plugins call or link, and what first-boot scripts use.
PACKAGES = (
    "ca-certificates",
    "conntrack",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "libseccomp2",
    "mount",
    "nftables",
    "passwd",
    "procps",
    "socat",
    "util-linux",
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_RECIPE = "1"  # raise when the code below makes another tree from the same inputs
_BOOTSTRAP_TIMEOUT_S = 900.0

INIT = "/usr/lib/pilvi/node-init"
_LINKS = {
    "/usr/bin/kubelet": "../lib/pilvi/kube",
    "/usr/bin/kubeadm": "../lib/pilvi/kube",
    "/usr/bin/kubectl": "../lib/pilvi/kube",
    "/usr/bin/systemctl": "../lib/pilvi/node-init",
}
_FOLDERS = (
    "/etc/cni/net.d",
    "/etc/kubernetes/kubelet.conf.d",
    "/etc/containerd",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/pilvi",
)


class NodePrograms(msgspec.Struct, frozen=True, kw_only=True):
    """Where the kit has the programs of a node. `kube` is the multi-call binary, `cni` the plugins."""

    kube: Path
    containerd: Path
    containerd_shim: Path
    ctr: Path
    runc: Path
    node_init: Path
    cni: tuple[Path, ...]

    def targets(self) -> dict[str, Path]:
        """Path inside the image -> program."""
        return {
            "/usr/lib/pilvi/kube": self.kube,
            INIT: self.node_init,
            "/usr/bin/containerd": self.containerd,
            "/usr/bin/containerd-shim-runc-v2": self.containerd_shim,
            "/usr/bin/ctr": self.ctr,
            "/usr/bin/runc": self.runc,
            **{f"/opt/cni/bin/{plugin.name}": plugin for plugin in self.cni},
        }


class NodeImageInputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node image is made from. `pause` is the reference of the sandbox image; it must be among `archives`."""

    version: str
    programs: NodePrograms
    archives: tuple[Path, ...]
    pause: str

    def digest(self) -> str:
        """Twelve hex digits over everything that goes in. Reads the files, some 400 MB."""
        state = hashlib.sha256(repr((_RECIPE, SUITE, PACKAGES, _LEFT_OUT, self.version, self.pause)).encode())
        files = [*self.programs.targets().items(), *((archive.name, archive) for archive in self.archives)]
        for name, path in sorted(files):
            with path.open("rb") as stream:
                state.update(f"\0{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
        return state.hexdigest()[:12]


async def build_node_image(inputs: NodeImageInputs, kit: Path, progress: Callable[[str], None]) -> NodeImage:
    """Build the image below the kit's folder unless it is there; idempotent and safe to interrupt.

    `progress` gets a short line at each step. Needs root and Debian's package archive. Raises DriverError with the failed command,
    OSError when the disk refuses.
    """
    progress("node image: reading its parts")
    folder = kit / f"node-image-{inputs.version}-{await asyncio.to_thread(inputs.digest)}"
    image = NodeImage(version=inputs.version, root=folder / "root", containerd=folder / "containerd", pause=inputs.pause)
    if folder.exists():
        return image
    unfinished = kit / f".{folder.name}.new"
    await asyncio.to_thread(remove_tree, unfinished)
    unfinished.mkdir(parents=True)
    try:
        progress(f"node image: installing {len(PACKAGES)} Debian packages")
        await _bootstrap(unfinished / "root")
        progress("node image: adding the node's programs")
        await asyncio.to_thread(_install, unfinished / "root", inputs.programs)
        progress(f"node image: unpacking {len(inputs.archives)} container images")
        await make_containerd_state(unfinished / "containerd", inputs.archives, inputs.programs.containerd, inputs.programs.ctr)
        write_json(unfinished / MANIFEST, {"version": image.version, "pause": image.pause}, mode=0o644)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except BaseException:
        remove_tree(unfinished)  # blocking, so that cancellation cannot cut it short
        raise
    return image


async def _bootstrap(root: Path) -> None:
    argv: list[str | Path] = [
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
    ]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    # Debian's copyright files stay, as its licences ask.
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", SUITE, root, *debian_sources(SUITE)]
    proxies = {name: value for name, value in os.environ.items() if name.lower() in {"http_proxy", "https_proxy", "no_proxy"}}
    await run(argv, timeout_s=_BOOTSTRAP_TIMEOUT_S, env=proxies)


def _install(root: Path, programs: NodePrograms) -> None:
    for folder in _FOLDERS:
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for target, program in programs.targets().items():
        _place(program, root / target.lstrip("/"))
    for link, points_to in _LINKS.items():
        path = root / link.lstrip("/")
        path.unlink(missing_ok=True)
        path.symlink_to(points_to)
    # The host's name and resolver were copied in while the packages were installed; each machine brings its own.
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).write_bytes(b"")


def _place(program: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = program.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)  # the kit is on another file system


def find_programs(get_binary: Callable[[str], Path]) -> NodePrograms:
    """The programs of a node from a function that finds one by name (the kit's, for one Kubernetes version)."""
    plugins: Sequence[str] = ("bridge", "host-local", "loopback", "portmap", "ptp")
    return NodePrograms(
        kube=get_binary("kubelet"),
        containerd=get_binary("containerd"),
        containerd_shim=get_binary("containerd-shim-runc-v2"),
        ctr=get_binary("ctr"),
        runc=get_binary("runc"),
        node_init=get_binary("node-init"),
        cni=tuple(get_binary(plugin) for plugin in plugins),
    )
