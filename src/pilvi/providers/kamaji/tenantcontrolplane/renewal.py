"""Which key material a control plane goes on with, which is issued anew, and when that has to happen next. Pure.

An authority is made once, before the control plane first runs, and never again: a new one would shut out every node and every
client. A leaf is issued anew when it is missing, unreadable, not of its authority, short of a name, or two thirds through its life.
"""

from collections.abc import Container, Mapping
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pilvi.controlplane import API_SERVER, AUTHORITIES, CONTROLLER_MANAGER, LEAVES, SCHEDULER, ControlPlane, Keys, renew_leaves
from pilvi.controlplane.keys import API_SERVER_LEAF, server_addresses, server_names
from pilvi.pki import KeyPair, create_ca, create_signing_key
from pilvi.pki.certificates import CLOCK_SKEW
from pilvi.providers.kamaji.tenantcontrolplane.secrets import PLACES, SERVICE_ACCOUNT, StoredKeys, secret_name

__all__ = ["MissingKeys", "Renewal", "next_renewal", "plan_keys", "units_to_restart"]

# client-go looks at certificate files on disk every five minutes (client-go, transport/cert_rotation.go).
RELOAD_WITHIN = timedelta(minutes=6)

# Leaf -> the component that presents it through client-go. The others are read anew for every handshake, or when the file changes.
RELOADED_BY_CLIENT_GO = {"controller-manager": CONTROLLER_MANAGER, "scheduler": SCHEDULER, "apiserver-kubelet-client": API_SERVER}


class MissingKeys(msgspec.Struct, frozen=True):
    """Authorities (and the service account key, `sa`) that an existing control plane has lost."""

    names: tuple[str, ...]

    def secret_names(self, name: str) -> tuple[str, ...]:
        """The Secrets of the TenantControlPlane `name` that held them."""
        return tuple(secret_name(name, PLACES[missing].suffix) for missing in self.names)


class Renewal(msgspec.Struct, frozen=True):
    """The key material to go on with, and what of it is new."""

    keys: Keys
    renewed: frozenset[str]


def plan_keys(
    plane: ControlPlane, stored: StoredKeys, recorded: Container[str], now: datetime, lifetime: timedelta
) -> Renewal | MissingKeys:
    """Complete what is stored. `recorded` names the authorities (and `sa`) that the status says were made already."""
    wanted = (*AUTHORITIES, SERVICE_ACCOUNT)
    have = {*stored.authorities, *((SERVICE_ACCOUNT,) if stored.service_account else ())}
    lost = tuple(name for name in wanted if name not in have and name in recorded)
    if lost:
        return MissingKeys(lost)
    authorities = {name: stored.authorities.get(name) or create_ca(common_name) for name, common_name in AUTHORITIES.items()}
    leaves = {name: pair for name, pair in stored.leaves.items() if _is_usable(name, pair, plane, authorities)}
    keys = Keys(authorities, leaves, stored.service_account or create_signing_key())
    keys, renewed = renew_leaves(plane, keys, now, lifetime)
    return Renewal(keys, renewed | {name for name in wanted if name not in have})


def next_renewal(keys: Keys) -> datetime:
    """When the first leaf has a third of its life left."""
    return min(end - (end - issued) / 3 for issued, end in map(_life, keys.leaves.values()))


def units_to_restart(keys: Keys, started: Mapping[str, datetime]) -> frozenset[str]:
    """The components that might present an expired certificate before they look at the disk again.

    `started` says since when each runs. The certificate that a component started with ends a third of a life after the new one
    is issued. With lives of a year nothing is ever restarted.
    """
    restart = set()
    for leaf, component in RELOADED_BY_CLIENT_GO.items():
        issued, end = _life(keys.leaves[leaf])
        if component in started and started[component] < issued and (end - issued) / 3 < RELOAD_WITHIN:
            restart.add(component)
    return frozenset(restart)


def _is_usable(name: str, pair: KeyPair, plane: ControlPlane, authorities: dict[str, KeyPair]) -> bool:
    if name not in LEAVES:
        return False
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        authority = x509.load_pem_x509_certificate(authorities[LEAVES[name].authority].certificate)
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    if name != API_SERVER_LEAF:
        return True
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(names.get_values_for_type(x509.DNSName)) == set(server_names(plane)) and set(
        names.get_values_for_type(x509.IPAddress)
    ) == set(server_addresses(plane))


def _life(pair: KeyPair) -> tuple[datetime, datetime]:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    return certificate.not_valid_before_utc + CLOCK_SKEW, certificate.not_valid_after_utc
