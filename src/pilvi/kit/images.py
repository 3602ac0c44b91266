"""The container images that every node needs, made from the kit's own binaries under the names that kubeadm and containerd ask for.

References come from the tools themselves (`kubeadm config images list`, `containerd config default`), so they are what a node of that
version will look for; the version of the program inside stands in the image's label.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from pilvi.errors import Bug
from pilvi.kit.oci import Entry, ImageConfig, write_image
from pilvi.lib.run import run

__all__ = ["DEBIAN_PACKAGES", "Image", "NodeBinaries", "build_images", "parse_ldd", "parse_references"]

# kube-proxy programs the kernel with these; they are copied from this machine, with the libraries that they load.
DEBIAN_PACKAGES = ("iptables", "nftables")
_NFT, _XTABLES = Path("/usr/sbin/nft"), Path("/usr/sbin/xtables-nft-multi")
_XTABLES_NAMES = [f"{family}{action}" for family in ("iptables", "ip6tables") for action in ("", "-save", "-restore")]
_PROTOCOLS = Path(__file__).with_name("protocols")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOBODY = "65535:65535"


@dataclass(frozen=True, slots=True)
class NodeBinaries:
    """Where the programs lie that go into images or know the images' names."""

    kubeadm: Path
    kube_proxy: Path
    coredns: Path
    pause: Path
    containerd: Path


@dataclass(frozen=True, slots=True)
class Image:
    """One archive: its file name, the references it is found by, and what it holds."""

    file: str
    references: list[str]
    entries: list[Entry]
    config: ImageConfig


async def build_images(folder: Path, kubernetes: str, binaries: NodeBinaries, coredns_version: str) -> dict[str, str]:
    """Write the archives for one Kubernetes version (`v1.37.2`) into `folder`; returns reference -> version of the program inside.

    Raises DriverError when one of the tools fails, OSError when the disk does.
    """
    listed = (await run([binaries.kubeadm, "config", "images", "list", "--kubernetes-version", kubernetes], timeout_s=60)).stdout
    default = (await run([binaries.containerd, "config", "default"], timeout_s=60)).stdout
    references = parse_references(listed)
    sandbox = parse_sandbox_image(default)
    version_label = "org.opencontainers.image.version"
    images = [
        Image(
            "pause.tar",
            # A node whose containerd expects another tag than its kubeadm still finds the image by either name.
            list(dict.fromkeys([sandbox, references["pause"]])),
            [Entry("pause", binaries.pause)],
            ImageConfig(["/pause"], user=_NOBODY),
        ),
        Image(
            "kube-proxy.tar",
            [references["kube-proxy"]],
            [Entry("usr/local/bin/kube-proxy", binaries.kube_proxy), *await _firewall_entries()],
            ImageConfig(["/usr/local/bin/kube-proxy"], env=[_PATH], labels={version_label: kubernetes}),
        ),
        Image(
            "coredns.tar",
            [references["coredns"]],
            [Entry("coredns", binaries.coredns), *_certificate_entries()],
            ImageConfig(["/coredns"], env=[_PATH], labels={version_label: coredns_version}),
        ),
    ]
    for image in images:
        await asyncio.to_thread(write_image, folder / image.file, image.references, image.entries, image.config)
    inside = {"kube-proxy.tar": kubernetes, "coredns.tar": coredns_version}
    return {reference: inside.get(image.file, "built here") for image in images for reference in image.references}


def parse_references(listed: str) -> dict[str, str]:
    """Image name (`pause`, `kube-proxy`, `coredns`...) -> reference, from `kubeadm config images list`. Raises Bug when one is missing."""
    references = {line.rpartition(":")[0].rpartition("/")[2]: line for line in listed.split()}
    for name in ("pause", "kube-proxy", "coredns"):
        if name not in references:
            raise Bug(f"kubeadm lists no image called {name}: {listed!r}")
    return references


def parse_sandbox_image(config: str) -> str:
    """The image that containerd starts for every pod, from its default configuration. Raises Bug when it names none."""
    match = re.search(r"""^\s*sandbox = ['"](\S+)['"]$""", config, re.MULTILINE)
    if match is None:
        raise Bug("containerd's default configuration names no sandbox image")
    return match[1]


def parse_ldd(output: str) -> list[tuple[str, Path]]:
    """What `ldd` resolved: the path that the program will look for, as (path without leading slash, file here).

    The dynamic loader stands in a line of its own with its path in the program; other libraries after `=>`.
    """
    libraries = []
    for line in output.splitlines():
        match = re.match(r"\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)", line)
        if match:
            libraries.append((_usr_merged(match[1]), Path(match[1])))
    return libraries


async def _firewall_entries() -> list[Entry]:
    """Copies of nft and iptables with all that they load, in a tree whose /bin, /lib, /lib64 and /sbin are links into /usr."""
    extensions = _find_extensions()
    libraries = dict(parse_ldd((await run(["ldd", _NFT, _XTABLES, *extensions], timeout_s=60)).stdout))
    return [
        *(Entry(name, link=f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")),
        *(Entry(name) for name in ("etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib64", "var/lib")),
        Entry("usr/sbin/nft", _NFT),
        Entry("usr/sbin/xtables-nft-multi", _XTABLES),
        *(Entry(f"usr/sbin/{name}", link="xtables-nft-multi") for name in _XTABLES_NAMES),
        *(Entry(str(path).lstrip("/"), path, mode=0o644) for path in extensions if not path.is_symlink()),
        *(Entry(str(path).lstrip("/"), link=str(path.readlink())) for path in extensions if path.is_symlink()),
        *(Entry(name, path) for name, path in libraries.items()),
        Entry("etc/protocols", _PROTOCOLS, mode=0o644),
    ]


def _find_extensions() -> list[Path]:
    """What iptables loads by name at run time, so that ldd of the program does not tell it."""
    return sorted(Path("/usr/lib").glob("*/xtables/*.so"))


def _certificate_entries() -> list[Entry]:
    """Public certificate authorities, which CoreDNS needs to forward over TLS or HTTPS, when this machine has them."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    return [Entry("etc/ssl/certs/ca-certificates.crt", bundle, mode=0o644)] if bundle.is_file() else []


def _usr_merged(path: str) -> str:
    name = path.lstrip("/")
    return name if name.startswith("usr/") else f"usr/{name}"
