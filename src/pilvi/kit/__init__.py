"""The kit: Kubernetes and all else that runs, built from pinned sources, with container images under their upstream names.

`build` makes what is missing; the other functions find it. Binaries by name: kube-apiserver, kube-controller-manager, kube-scheduler,
kubelet, kubeadm, kubectl, etcd, kube-proxy; containerd, containerd-shim-runc-v2, ctr, runc, bridge, host-local, loopback, portmap, ptp,
pause; sandbox-enter, node-init; cluster-api-core, cluster-api-kubeadm-bootstrap, clusterctl; coredns; registry.
All but `build` read a few small files and never wait for a network.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pilvi.api import JsonObject
from pilvi.kit import archive, manifests
from pilvi.kit.builder import Builder
from pilvi.kit.progress import Progress, Step
from pilvi.kit.store import DEFAULT_ROOT, Listed, Store

__all__ = [
    "Listed",
    "Progress",
    "Step",
    "Store",
    "build",
    "built_versions",
    "cluster_api_manifests",
    "export_archive",
    "find_kubernetes",
    "find_useless",
    "get_binary",
    "get_folder",
    "has_kubernetes",
    "image_archives",
    "import_archive",
    "kubernetes_versions",
    "list_artefacts",
    "remove",
]


def _store() -> Store:
    return _store_at(os.environ.get("PILVI_CACHE") or str(DEFAULT_ROOT))


@functools.cache
def _store_at(root: str) -> Store:
    return Store(Path(root))  # keys are computed once: the sources of a running pilvi do not change


def kubernetes_versions() -> list[str]:
    """Kubernetes versions that this pilvi has sources for, as `v1.37.2`, newest last. Needs no build."""
    return _store().kubernetes_versions()


def built_versions() -> list[str]:
    """Those that are built here: what a cloud can run. Also minors that came to the sources after this process began, once built."""
    return _store().built_versions()


def find_kubernetes(version: str) -> Path | None:
    """The folder of the part with this Kubernetes version, built by this pilvi or by another one, or None."""
    return _store().find_kubernetes(version)


def has_kubernetes(version: str) -> bool:
    """Whether there is one."""
    return find_kubernetes(version) is not None


def get_binary(name: str, kubernetes: str | None = None) -> Path:
    """Absolute path of a binary that every user of this machine may execute.

    `kubernetes` (with or without `v`) chooses the version of what comes with Kubernetes; None is the newest that is built; other
    binaries ignore it. A version of another pilvi is found for as long as its part is here. Raises UserError when the version is
    unknown (its text lists the known ones) or the binary is not built.
    """
    return _store().get_binary(name, kubernetes)


def get_folder() -> Path:
    """The kit's folder, `PILVI_CACHE` or /var/cache/pilvi/kit. It may not exist yet."""
    return _store().root


def image_archives(kubernetes: str | None = None) -> list[Path]:
    """OCI archives of the images that every node of this version needs (pause, kube-proxy, CoreDNS), each under its upstream reference.

    `ctr -n k8s.io images import` takes them. Raises UserError as `get_binary` does.
    """
    store = _store()
    return sorted(store.get_artefact(f"images-{store.resolve_minor(kubernetes)}").glob("*.tar"))


def cluster_api_manifests(core_url: str, bootstrap_url: str, ca_bundle: bytes) -> list[JsonObject]:
    """Cluster API's custom resource definitions and webhook configurations, and clusterctl's Provider kind.

    The URLs (`https://address:port`) are where the webhooks of the core and of the kubeadm bootstrap manager answer; `ca_bundle` is the
    PEM certificate that signed theirs. Raises UserError when the kit is not built.
    """
    path = _store().get_artefact("manifests") / manifests.FILE
    return manifests.address_manifests(path, {"core": core_url, "bootstrap": bootstrap_url}, ca_bundle)


def list_artefacts() -> list[Listed]:
    """Every artefact that is wanted, built or missing, then those on disk that this pilvi has no use for."""
    return _store().list_artefacts()


def find_useless() -> list[Path]:
    """What this pilvi has no use for: stale artefacts, leftovers, Go's caches. Clouds of this host may use it still (`plane.prune`)."""
    return _store().find_useless()


def remove(paths: Iterable[Path]) -> None:
    """Remove what lies in the kit's folder. Blocks. Raises UserError when another command is at work."""
    _store().remove(paths)


async def build(progress: Progress | None = None, only: Sequence[str] | None = None) -> list[Listed]:
    """Build what is missing; `only` names artefacts (with what they are made from). Safe to repeat and to interrupt.

    `progress` is called at every change and once a second. Returns all artefacts. Raises UserError: no Go, compiler, network, disk space.
    """
    store = _store()
    await Builder(store, progress).build(only)
    return store.list_artefacts()


def export_archive(path: Path) -> list[Listed]:
    """Write all built artefacts of this pilvi to one tar file (gzip when it is called .gz or .tgz). Blocks. Raises UserError."""
    return archive.export_archive(_store(), path)


def import_archive(path: Path) -> list[Listed]:
    """Take the artefacts that this pilvi uses from such a file, each checked against its hashes. Blocks. Raises UserError."""
    return archive.import_archive(_store(), path)
