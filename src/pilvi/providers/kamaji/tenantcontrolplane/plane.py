"""From the spec of a TenantControlPlane to the data of its four processes. Pure."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from pilvi.api.kamaji import Addons, Deployment, ExtraArgs, NetworkProfile, TenantControlPlane, TenantControlPlaneSpec
from pilvi.controlplane import API_SERVER, CONTROLLER_MANAGER, SCHEDULER, ControlPlane, KubeadmOptions
from pilvi.controlplane.spec import Flags
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.providers.legs import control_plane_netns, control_plane_unit
from pilvi.tenant import control_plane_dir

__all__ = ["addons_of", "check_networks", "control_plane", "dns_address", "kubeadm_options", "networks", "profile_of", "spec_of"]

# What kubeadm turns on and Kamaji's default list lacks: without it a kubelet may edit every node.
ALWAYS_ADMITTED = "NodeRestriction"

_DNS_NAME = re.compile(r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


def control_plane(tcp: TenantControlPlane, cloud: Cloud, *, address: IPv4Address, uid: int, version: str) -> ControlPlane:
    """The control plane that `tcp` asks for, at its cloud address, as the host user `uid`, in the version that may be run.

    Raises UserError naming the field.
    """
    name, namespace, uid_of_object = tcp.metadata.name, tcp.metadata.namespace, tcp.metadata.uid
    spec = spec_of(tcp)
    profile, kubernetes = profile_of(spec), spec.kubernetes
    pod_cidr, service_cidr = networks(spec)
    names, addresses = _split_sans(profile.cert_sans)
    arguments = (spec.control_plane.deployment or Deployment()).extra_args or ExtraArgs()
    return ControlPlane(
        name=control_plane_unit(uid_of_object),
        cluster_name=name,
        version=version,
        netns=control_plane_netns(cloud, uid_of_object),
        address=address,
        port=profile.port,
        advertise_address=_address(profile.advertise_address, "spec.networkProfile.advertiseAddress"),
        uid=uid,
        gid=uid,
        data_dir=control_plane_dir(cloud, uid_of_object),
        log_dir=cloud.home / "logs",
        pod_cidr=pod_cidr,
        service_cidr=service_cidr,
        cluster_domain=profile.cluster_domain,
        dns_address=dns_address(spec, service_cidr),
        server_names=(name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local", *names),
        server_addresses=tuple(addresses),
        admission_plugins=tuple(dict.fromkeys([*kubernetes.admission_controllers, ALWAYS_ADMITTED])),
        kubelet_address_types=tuple(kubernetes.kubelet.preferred_address_types),
        extra_flags={
            API_SERVER: _flags(arguments.api_server, "apiServer"),
            CONTROLLER_MANAGER: _flags(arguments.controller_manager, "controllerManager"),
            SCHEDULER: _flags(arguments.scheduler, "scheduler"),
        },
    )


def kubeadm_options(spec: TenantControlPlaneSpec) -> KubeadmOptions:
    """What kubeadm's phases write beyond the control plane's own facts."""
    driver = spec.kubernetes.kubelet.cgroupfs
    return KubeadmOptions(kubelet={"cgroupDriver": driver} if driver else {})


def addons_of(spec: TenantControlPlaneSpec) -> Addons:
    """The add-ons that are asked for; none when the field is left out."""
    return spec.addons or Addons()


def profile_of(spec: TenantControlPlaneSpec) -> NetworkProfile:
    """The network profile with its defaults."""
    return spec.network_profile or NetworkProfile()


def spec_of(tcp: TenantControlPlane) -> TenantControlPlaneSpec:
    """The spec. Raises UserError when the object has none, which only a CRD that was tampered with lets through."""
    if tcp.spec is None:
        raise UserError(f"TenantControlPlane {tcp.metadata.namespace}/{tcp.metadata.name} has no spec", hint="write one")
    return tcp.spec


def networks(spec: TenantControlPlaneSpec) -> tuple[IPv4Network, IPv4Network]:
    """The pod and the service network. Raises UserError."""
    profile = profile_of(spec)
    return _network(profile.pod_cidr, "spec.networkProfile.podCidr"), _network(profile.service_cidr, "spec.networkProfile.serviceCidr")


def dns_address(spec: TenantControlPlaneSpec, service_cidr: IPv4Network) -> IPv4Address:
    """The address of the cluster's DNS Service: the first asked for, else the tenth of the service network. Raises UserError."""
    field = "spec.networkProfile.dnsServiceIPs"
    wanted = profile_of(spec).dns_service_ips
    if not wanted:
        if service_cidr.num_addresses < 16:
            raise UserError(f"spec.networkProfile.serviceCidr {service_cidr} has no tenth address", hint="use a /20 or larger network")
        return service_cidr[10]
    address = _address(wanted[0], field)
    if address is None or address not in service_cidr:
        raise UserError(
            f"{field} {wanted[0]} is not in the service network {service_cidr}", hint="leave it out or choose one of that network"
        )
    return address


def check_networks(spec: TenantControlPlaneSpec, others: Mapping[str, IPv4Network]) -> None:
    """Raise UserError when the pod or service network shares addresses with each other or with one of `others`, named as given."""
    pods, services = networks(spec)
    ours = {"spec.networkProfile.podCidr": pods, "spec.networkProfile.serviceCidr": services}
    for name, network in ours.items():
        for other_name, other in [*((n, o) for n, o in ours.items() if n > name), *others.items()]:
            if network.overlaps(other):
                raise UserError(f"{name} {network} overlaps {other_name} {other}", hint="choose networks that share no address")


def _network(text: str, field: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as e:
        raise UserError(f"{field} {text!r} is not an IPv4 network", hint="write it as 10.244.0.0/16") from e


def _address(text: str | None, field: str) -> IPv4Address | None:
    if not text:
        return None
    try:
        return IPv4Address(text)
    except ValueError as e:
        raise UserError(f"{field} {text!r} is not an IPv4 address", hint="write it as 10.96.0.10") from e


def _split_sans(sans: Iterable[str]) -> tuple[list[str], list[IPv4Address]]:
    """Names and addresses among `spec.networkProfile.certSANs`; a port is no part of a certificate and is left out."""
    names: list[str] = []
    addresses: list[IPv4Address] = []
    for san in sans:
        host, colon, port = san.partition(":")
        text = host if colon and port.isdigit() else san
        try:
            addresses.append(IPv4Address(text))
        except ValueError as e:
            if not _DNS_NAME.match(text):
                raise UserError(
                    f"spec.networkProfile.certSANs has {san!r}, which is neither a DNS name nor an IPv4 address",
                    hint="write names in lower case, as api.example.org",
                ) from e
            names.append(text)
    return names, addresses


def _flags(arguments: Iterable[str], component: str) -> Flags:
    flags = tuple(arguments)
    for flag in flags:
        if not flag.startswith("--"):
            raise UserError(
                f"spec.controlPlane.deployment.extraArgs.{component} has {flag!r}, which is not a flag", hint="write it as --name=value"
            )
    return flags
