"""What the kit builds, as data: programs, the Go module folder that pins their versions, and what the build needs.

The versions are not here: they stand in the go.mod of each folder under `modules/`, and go.sum is the list of checksums. A second
Kubernetes minor is one more folder `kubernetes-<minor>`. `{module path}` in a stamp becomes the version that go.mod pins for that module.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

__all__ = ["MODULES", "Program", "Recipe", "find_recipes"]

MODULES = Path(__file__).parent / "modules"


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One binary. `package` is a Go package: an import path, or `./folder` for sources of ours; or, ending in `.c`, one C file.

    With `cgo` a Go program is linked with C libraries, statically like all others. `debian` names the packages that its build needs.
    """

    name: str
    package: str
    cgo: bool = False
    tags: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One artefact made from one module folder.

    `sources` are the folders of ours that it compiles; `links` maps further names to a program that acts by the name it is called with;
    `stamps` are linker variables of upstream's `version` commands. `memory_mb` is the most that compiling has been seen to use on two
    cores, `disk_mb` what sources, compiled packages and the artefact take together when nothing is cached.
    """

    name: str
    folder: Path
    programs: tuple[Program, ...]
    sources: tuple[str, ...] = ()
    links: dict[str, str] = {}
    stamps: dict[str, str] = {}
    memory_mb: int
    disk_mb: int

    def names(self) -> set[str]:
        """Every name under which a binary of this artefact is found."""
        return {program.name for program in self.programs} | set(self.links)


def find_recipes(modules: Path = MODULES) -> list[Recipe]:
    """All recipes whose module folder is there, the slowest first: Kubernetes minors newest first, then the rest."""
    minors = [path for path in modules.iterdir() if re.fullmatch(r"kubernetes-\d+\.\d+", path.name)]
    minors.sort(key=lambda path: [int(part) for part in path.name.removeprefix("kubernetes-").split(".")], reverse=True)
    others = (_cluster_api, _addons, _node, _registry, _machine)
    return [*(_kubernetes(path) for path in minors), *(make(modules) for make in others)]


def _kubernetes(folder: Path) -> Recipe:
    major, minor = folder.name.removeprefix("kubernetes-").split(".")
    version = "k8s.io/component-base/version"
    return Recipe(
        name=folder.name,
        folder=folder,
        sources=("kube",),
        programs=(
            Program(name="kube", package="./kube"),
            Program(name="etcd", package="go.etcd.io/etcd/server/v3"),
            Program(name="kube-proxy", package="k8s.io/kubernetes/cmd/kube-proxy"),
        ),
        links=dict.fromkeys(("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeadm", "kubectl", "kubelet"), "kube"),
        stamps={
            f"{version}.gitVersion": "{k8s.io/kubernetes}",
            f"{version}.gitMajor": major,
            f"{version}.gitMinor": minor,
            f"{version}.gitTreeState": "clean",
            f"{version}.buildDate": "1970-01-01T00:00:00Z",
        },
        memory_mb=3600,
        disk_mb=9000,
    )


def _cluster_api(modules: Path) -> Recipe:
    version = "sigs.k8s.io/cluster-api/version"
    return Recipe(
        name="cluster-api",
        folder=modules / "cluster-api",
        programs=(
            Program(name="cluster-api-core", package="sigs.k8s.io/cluster-api/core"),
            Program(name="cluster-api-kubeadm-bootstrap", package="sigs.k8s.io/cluster-api/bootstrap/kubeadm"),
            Program(name="clusterctl", package="sigs.k8s.io/cluster-api/cmd/clusterctl"),
        ),
        stamps={
            f"{version}.gitVersion": "{sigs.k8s.io/cluster-api}",
            f"{version}.gitTreeState": "clean",
            f"{version}.buildDate": "1970-01-01T00:00:00Z",
        },
        memory_mb=1500,
        disk_mb=2000,
    )


def _addons(modules: Path) -> Recipe:
    return Recipe(
        name="addons",
        folder=modules / "addons",
        programs=(Program(name="coredns", package="github.com/coredns/coredns"),),
        memory_mb=1500,
        disk_mb=2000,
    )


def _node(modules: Path) -> Recipe:
    containerd, plugins = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins"
    return Recipe(
        name="node",
        folder=modules / "node",
        sources=("pause",),
        programs=(
            *(Program(name=name, package=f"{containerd}/cmd/{name}") for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
            Program(
                name="runc",
                package="github.com/opencontainers/runc",
                cgo=True,
                tags=("seccomp", "netgo", "osusergo"),
                debian=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
            ),
            *(Program(name=name, package=f"{plugins}/plugins/main/{name}") for name in ("bridge", "loopback", "ptp")),
            Program(name="host-local", package=f"{plugins}/plugins/ipam/host-local"),
            Program(name="portmap", package=f"{plugins}/plugins/meta/portmap"),
            Program(name="pause", package="pause/pause.c", debian=("gcc", "libc6-dev")),
        ),
        stamps={
            f"{containerd}/version.Version": f"{{{containerd}}}",
            f"{plugins}/pkg/utils/buildversion.BuildVersion": f"{{{plugins}}}",
        },
        memory_mb=1500,
        disk_mb=1000,
    )


def _registry(modules: Path) -> Recipe:
    distribution = "github.com/distribution/distribution/v3"
    return Recipe(
        name="registry",
        folder=modules / "registry",
        sources=("registry",),
        programs=(Program(name="registry", package="./registry"),),
        stamps={f"{distribution}/version.version": f"{{{distribution}}}"},
        memory_mb=1000,
        disk_mb=600,
    )


def _machine(modules: Path) -> Recipe:
    """The programs of ours that make a machine; apart from `node`, so that a change of theirs rebuilds only them."""
    return Recipe(
        name="machine",
        folder=modules / "node",
        sources=("sandbox-enter", "node-init"),
        programs=(Program(name="sandbox-enter", package="./sandbox-enter"), Program(name="node-init", package="./node-init")),
        memory_mb=300,
        disk_mb=100,
    )
