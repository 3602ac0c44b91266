"""What a Kubernetes node consists of: Debian packages, and programs of the kit with their places."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

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
INIT = "/usr/lib/pilvi/node-init"
_LINKS = {
    "/usr/bin/kubelet": "../lib/pilvi/kube",
    "/usr/bin/kubeadm": "../lib/pilvi/kube",
    "/usr/bin/kubectl": "../lib/pilvi/kube",
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


def install_programs(root: Path, programs: NodePrograms) -> None:
    """Put the programs and the folders that they expect into a Debian root. Raises OSError."""
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
        (root / name).unlink(missing_ok=True)
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
