"""The key material of a control plane: which authorities there are, and who gets which certificate from which of them.

Names, subjects and groups are those of kubeadm's certificates and kubeconfigs, so that upstream's RBAC applies unchanged.
"""

from datetime import datetime, timedelta
from ipaddress import IPv4Address

import msgspec

from pilvi.controlplane.spec import ControlPlane
from pilvi.pki import KeyPair, Usage, create_ca, create_signing_key, issue, needs_renewal
from pilvi.pki.certificates import LEAF_LIFETIME

CA = "ca"
FRONT_PROXY_CA = "front-proxy-ca"
ETCD_CA = "etcd-ca"
AUTHORITIES = {CA: "kubernetes", FRONT_PROXY_CA: "front-proxy-ca", ETCD_CA: "etcd-ca"}


class Leaf(msgspec.Struct, frozen=True):
    """One leaf certificate: who signs it, whom it names, what it is for."""

    authority: str
    common_name: str
    usage: Usage
    organizations: tuple[str, ...] = ()


API_SERVER_LEAF = "apiserver"
ETCD_LEAF = "etcd-server"
LEAVES: dict[str, Leaf] = {
    API_SERVER_LEAF: Leaf(CA, "kube-apiserver", Usage.SERVER),
    "apiserver-kubelet-client": Leaf(CA, "kube-apiserver-kubelet-client", Usage.CLIENT, ("kubeadm:cluster-admins",)),
    "front-proxy-client": Leaf(FRONT_PROXY_CA, "front-proxy-client", Usage.CLIENT),
    ETCD_LEAF: Leaf(ETCD_CA, "etcd", Usage.SERVER | Usage.CLIENT),
    "etcd-client": Leaf(ETCD_CA, "kube-apiserver-etcd-client", Usage.CLIENT),
    "controller-manager": Leaf(CA, "system:kube-controller-manager", Usage.CLIENT),
    "scheduler": Leaf(CA, "system:kube-scheduler", Usage.CLIENT),
    "admin": Leaf(CA, "kubernetes-admin", Usage.CLIENT, ("kubeadm:cluster-admins",)),
    "super-admin": Leaf(CA, "kubernetes-super-admin", Usage.CLIENT, ("system:masters",)),
}


class Keys(msgspec.Struct, frozen=True):
    """All key material of one control plane; `authorities` and `leaves` by the names above."""

    authorities: dict[str, KeyPair]
    leaves: dict[str, KeyPair]
    service_account: KeyPair


def create_authorities() -> dict[str, KeyPair]:
    """New certificate authorities. Never call it for a control plane that already has some: every client would be shut out."""
    return {name: create_ca(common_name) for name, common_name in AUTHORITIES.items()}


def create_keys(plane: ControlPlane, lifetime: timedelta = LEAF_LIFETIME) -> Keys:
    """All key material of a new control plane."""
    authorities = create_authorities()
    return Keys(authorities, {name: issue_leaf(name, plane, authorities, lifetime) for name in LEAVES}, create_signing_key())


def issue_leaf(name: str, plane: ControlPlane, authorities: dict[str, KeyPair], lifetime: timedelta = LEAF_LIFETIME) -> KeyPair:
    """Issue the leaf certificate `name` of LEAVES; raises KeyError for another name."""
    leaf = LEAVES[name]
    dns_names: tuple[str, ...] = ()
    addresses: tuple[IPv4Address, ...] = ()
    if name == API_SERVER_LEAF:
        dns_names, addresses = server_names(plane), server_addresses(plane)
    elif name == ETCD_LEAF:
        dns_names, addresses = ("localhost",), (IPv4Address("127.0.0.1"),)
    return issue(
        authorities[leaf.authority],
        leaf.common_name,
        leaf.usage,
        organizations=leaf.organizations,
        dns_names=dns_names,
        addresses=addresses,
        lifetime=lifetime,
    )


def server_names(plane: ControlPlane) -> tuple[str, ...]:
    """DNS names under which the API server may be dialled."""
    inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{plane.cluster_domain}")
    return (*inside, "localhost", *plane.server_names)


def server_addresses(plane: ControlPlane) -> tuple[IPv4Address, ...]:
    """Addresses under which the API server may be dialled; the first Service address is the `kubernetes` Service."""
    first_service_address = plane.service_cidr[1]
    outside = (plane.advertise_address,) if plane.advertise_address else ()
    return (plane.address, *outside, first_service_address, IPv4Address("127.0.0.1"), *plane.server_addresses)


def renew_leaves(plane: ControlPlane, keys: Keys, now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> tuple[Keys, frozenset[str]]:
    """Issue anew what is missing or has less than a third of its life left; returns the keys and the names that changed."""
    due = frozenset(name for name in LEAVES if name not in keys.leaves or needs_renewal(keys.leaves[name].certificate, now))
    if not due:
        return keys, due
    fresh = {name: issue_leaf(name, plane, keys.authorities, lifetime) for name in due}
    return Keys(keys.authorities, keys.leaves | fresh, keys.service_account), due
