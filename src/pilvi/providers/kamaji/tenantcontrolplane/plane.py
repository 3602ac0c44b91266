"""From the spec of a TenantControlPlane to the data of its four processes. Pure."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from pilvi.api.core import ResourceRequirements
from pilvi.api.kamaji import (
    Addons,
    ComponentResources,
    CoreDNS,
    Deployment,
    ExtraArgs,
    KubeProxy,
    NetworkProfile,
    TenantControlPlane,
    TenantControlPlaneSpec,
)
from pilvi.controlplane import API_SERVER, CONTROLLER_MANAGER, SCHEDULER, AddonImage, ControlPlane, KubeadmOptions
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.units import CgroupLimits
from pilvi.lib.quantity import quantity_bytes, quantity_milli
from pilvi.providers.kamaji.tenantcontrolplane.arguments import read_arguments
from pilvi.providers.legs import control_plane_netns, control_plane_unit
from pilvi.tenant import control_plane_dir

__all__ = ["addons_of", "check_networks", "control_plane", "kubeadm_options", "networks", "profile_of", "spec_of"]

# What kubeadm turns on and Kamaji's default list lacks: without it a kubelet may edit every node.
ALWAYS_ADMITTED = "NodeRestriction"

# Linux takes no less than a hundredth of a processor for a limit; less memory than this is a mistake in the unit.
_LEAST_CPU_MILLI, _LEAST_MEMORY_BYTES = 10, 1024**2

# kubeadm takes a tag for a version, and asks the internet what any other word stands for.
_VERSION_TAG = re.compile(r"^v\d+\.\d+\.\d+([-.][0-9A-Za-z.-]+)?$")
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
    deployment = spec.control_plane.deployment or Deployment()
    arguments, resources = deployment.extra_args or ExtraArgs(), deployment.resources or ComponentResources()
    data_dir = control_plane_dir(cloud, uid_of_object)
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
        data_dir=data_dir,
        log_dir=cloud.home / "logs",
        pod_cidr=pod_cidr,
        service_cidr=service_cidr,
        cluster_domain=profile.cluster_domain,
        dns_addresses=_dns_addresses(profile, service_cidr),
        server_names=(name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local", *names),
        server_addresses=tuple(addresses),
        admission_plugins=tuple(dict.fromkeys([*kubernetes.admission_controllers, ALWAYS_ADMITTED])),
        kubelet_address_types=tuple(kubernetes.kubelet.preferred_address_types),
        extra_flags={
            API_SERVER: read_arguments(arguments.api_server, "apiServer", data_dir),
            CONTROLLER_MANAGER: read_arguments(arguments.controller_manager, "controllerManager", data_dir),
            SCHEDULER: read_arguments(arguments.scheduler, "scheduler", data_dir),
        },
        limits={
            component: limits
            for component, required, name in (
                (API_SERVER, resources.api_server, "apiServer"),
                (CONTROLLER_MANAGER, resources.controller_manager, "controllerManager"),
                (SCHEDULER, resources.scheduler, "scheduler"),
            )
            if (limits := _find_limits(required, name)) is not None
        },
    )


def kubeadm_options(spec: TenantControlPlaneSpec) -> KubeadmOptions:
    """What kubeadm's phases write beyond the control plane's own facts. Raises UserError."""
    driver, addons = spec.kubernetes.kubelet.cgroupfs, addons_of(spec)
    dns, proxy = addons.core_dns or CoreDNS(), addons.kube_proxy or KubeProxy()
    if proxy.image_tag and not _VERSION_TAG.match(proxy.image_tag):
        raise UserError(f"spec.addons.kubeProxy.imageTag {proxy.image_tag!r} is not a version", hint="write a tag such as v1.37.2")
    return KubeadmOptions(
        kubelet={"cgroupDriver": driver} if driver else {},
        dns_image=AddonImage(dns.image_repository, dns.image_tag),
        proxy_image=AddonImage(proxy.image_repository, proxy.image_tag),
    )


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


def _dns_addresses(profile: NetworkProfile, service_cidr: IPv4Network) -> tuple[IPv4Address, ...]:
    """What kubelets ask for names; the DNS Service gets the first. Raises UserError."""
    field = "spec.networkProfile.dnsServiceIPs"
    if not profile.dns_service_ips:
        if service_cidr.num_addresses < 16:
            raise UserError(f"spec.networkProfile.serviceCidr {service_cidr} has no tenth address", hint="use a /20 or larger network")
        return (service_cidr[10],)
    found = []
    for text in profile.dns_service_ips:
        address = _address(text, field)
        if address is None or address not in service_cidr:
            raise UserError(
                f"{field} {text!r} is not in the service network {service_cidr}", hint="leave it out or choose one of that network"
            )
        found.append(address)
    return tuple(dict.fromkeys(found))


def _find_limits(required: ResourceRequirements | None, component: str) -> CgroupLimits | None:
    """What of `limits` bounds a process; None when nothing does. Raises UserError."""
    limits = required.limits if required else {}
    field = f"spec.controlPlane.deployment.resources.{component}.limits"
    memory_bytes = quantity_bytes(limits["memory"]) if "memory" in limits else None
    cpu_milli = quantity_milli(limits["cpu"]) if "cpu" in limits else None
    if memory_bytes is not None and memory_bytes < _LEAST_MEMORY_BYTES:
        raise UserError(f"{field}.memory is {limits['memory']}", hint="write at least 1Mi, for example 1Gi, or leave it out")
    if cpu_milli is not None and cpu_milli < _LEAST_CPU_MILLI:
        raise UserError(f"{field}.cpu is {limits['cpu']}", hint="write at least 10m, for example 500m, or leave it out")
    return CgroupLimits(memory_bytes=memory_bytes, cpu_milli=cpu_milli) if memory_bytes or cpu_milli else None


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
