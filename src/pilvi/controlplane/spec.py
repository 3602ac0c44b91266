"""What one control plane is made of, as data: the platform's and each tenant's are the same four processes."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from pilvi.host.units import CgroupLimits

Flags = tuple[str, ...]

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
COMPONENTS = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)


class ControlPlane(msgspec.Struct, frozen=True, kw_only=True):
    """One control plane in a network namespace of its own, where every component has its usual port.

    `name` starts the names of its units; `cluster_name` is what kubeconfigs and kubeadm call it. `address` is its cloud
    address: the API server listens there on `port` and workers are told `endpoint_host` (`address` unless given).
    `dns_addresses` are what kubelets ask for names, the first the DNS Service's; none means the tenth of `service_cidr`.
    `extra_flags` maps a component to flags that replace ours of the same name or are added, as kubeadm's extraArgs do;
    `limits` maps one to what its process may use.
    """

    name: str
    cluster_name: str
    version: str
    netns: str
    address: IPv4Address
    uid: int
    gid: int
    data_dir: Path
    log_dir: Path
    port: int = 6443
    endpoint_host: str | None = None
    advertise_address: IPv4Address | None = None
    pod_cidr: IPv4Network | None = IPv4Network("10.244.0.0/16")
    service_cidr: IPv4Network = IPv4Network("10.96.0.0/16")
    cluster_domain: str = "cluster.local"
    dns_addresses: tuple[IPv4Address, ...] = ()
    server_names: tuple[str, ...] = ()
    server_addresses: tuple[IPv4Address, ...] = ()
    admission_plugins: tuple[str, ...] = ("NodeRestriction",)
    kubelet_address_types: tuple[str, ...] = ("InternalIP",)
    controllers: tuple[str, ...] = ("*", "bootstrapsigner", "tokencleaner")
    extra_flags: dict[str, Flags] = {}
    limits: dict[str, CgroupLimits] = {}

    @property
    def dns_address(self) -> IPv4Address:
        """The address of the DNS Service."""
        return self.dns_addresses[0] if self.dns_addresses else self.service_cidr[10]

    @property
    def endpoint(self) -> str:
        """`host:port` of the API server."""
        return f"{self.endpoint_host or self.address}:{self.port}"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.endpoint}"

    @property
    def pki_dir(self) -> Path:
        """Where the key material of the units is written (0750, root's, the units' group)."""
        return self.data_dir / "pki"

    def unit(self, component: str) -> str:
        """Name of the unit that runs `component`."""
        return f"{self.name}-{component}"

    @property
    def scheduler_config(self) -> Path:
        """Path of the scheduler's configuration."""
        return self.data_dir / "scheduler.yaml"

    def kubeconfig(self, user: str) -> Path:
        """Path of the kubeconfig by which a component or the engine is `user`."""
        return self.data_dir / f"{user}.conf"


def merge_flags(ours: Flags, theirs: Flags) -> Flags:
    """Our flags with those replaced or added that the user asked for; a flag is `--name=value` or `--name`.

    A flag given several times by the user is kept several times (as `--feature-gates` or `--audit-webhook` users expect).
    """
    overridden = {flag.partition("=")[0] for flag in theirs}
    return (*(flag for flag in ours if flag.partition("=")[0] not in overridden), *theirs)
