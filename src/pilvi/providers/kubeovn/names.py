"""Names that Kube-OVN's users and the other controllers write and read: annotations, labels, default objects."""

from pilvi.providers.attachments import POD_NETWORK
from pilvi.providers.published import DEFAULT_VPC

__all__ = [
    "DEFAULT_SUBNET",
    "DEFAULT_VPC",
    "FIDELITY",
    "FINALIZER",
    "HOST_PORTS",
    "LABEL_OWNER_KIND",
    "LABEL_OWNER_NAME",
    "LABEL_OWNER_NAMESPACE",
    "LABEL_OWNER_UID",
    "LABEL_SUBNET",
    "POD_CIDRS",
    "TRANSIT",
    "VPC",
    "default_route",
    "requested_address",
    "requested_mac",
    "requested_subnet",
]

DEFAULT_SUBNET = "ovn-default"

FINALIZER = "pilvi.dev/kubeovn"

TRANSIT = "pilvi.dev/transit"
"""Annotation on a Vpc: the outer address of its router."""
HOST_PORTS = "pilvi.dev/host-ports"
"""Annotation on a Vpc: comma-separated ports of the host that it may use."""
POD_CIDRS = "pilvi.dev/pod-cidrs"
"""Annotation on an IP object: comma-separated pod networks behind that machine."""
FIDELITY = "pilvi.dev/Fidelity"
"""Condition of a VirtualMachineInstance; its reason says what the machine is: `Kvm`, `Tcg` or `Sandbox`."""
VPC = "pilvi.dev/vpc"
"""Annotation on a TenantControlPlane: the Vpc in which its workers live."""

LABEL_SUBNET = "ovn.kubernetes.io/subnet"
# A cluster-scoped object cannot have a namespaced owner, so the owner stands in labels and in its own finalizer.
LABEL_OWNER_KIND = "pilvi.dev/owner-kind"
LABEL_OWNER_NAMESPACE = "pilvi.dev/owner-namespace"
LABEL_OWNER_NAME = "pilvi.dev/owner-name"
LABEL_OWNER_UID = "pilvi.dev/owner-uid"


def requested_subnet(provider: str = POD_NETWORK) -> str:
    """Annotation on a machine: the Subnet of its address in this network."""
    return f"{provider}.kubernetes.io/logical_switch"


def requested_address(provider: str = POD_NETWORK) -> str:
    """Annotation on a machine: its address in this network."""
    return f"{provider}.kubernetes.io/ip_address"


def requested_mac(provider: str = POD_NETWORK) -> str:
    """Annotation on a machine: the MAC of its card in this network."""
    return f"{provider}.kubernetes.io/mac_address"


def default_route(provider: str) -> str:
    """Annotation on a machine: whether its way out and its resolver are in this network; without it those of its first network are."""
    return f"{provider}.kubernetes.io/default_route"
