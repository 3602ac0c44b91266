"""Key material between memory (`controlplane.Keys`) and the Secrets that record it, under Kamaji's names and keys.

Pure. One table says where every certificate lives; reading and writing both follow it. A Secret that is damaged or gone gives
no certificate: a leaf is then issued anew, an authority is reported as missing.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pilvi.api import JsonObject
from pilvi.controlplane import ControlPlane, Keys
from pilvi.pki import KeyPair, kubeconfig_inline
from pilvi.providers.kamaji.names import ROTATE_ANNOTATION

__all__ = ["SERVICE_ACCOUNT", "StoredKeys", "checksum", "read_keys", "secret_data", "secret_name"]

SERVICE_ACCOUNT = "sa"

Data = dict[str, bytes]


class Place(msgspec.Struct, frozen=True):
    """Where one key pair is kept: the Secret `<control plane>-<suffix>` and the keys in it."""

    suffix: str
    certificate: str
    key: str


PLACES: dict[str, Place] = {
    "ca": Place("ca", "ca.crt", "ca.key"),
    "front-proxy-ca": Place("front-proxy-ca-certificate", "front-proxy-ca.crt", "front-proxy-ca.key"),
    "etcd-ca": Place("datastore-certificate", "ca.crt", "ca.key"),
    SERVICE_ACCOUNT: Place("sa-certificate", "sa.pub", "sa.key"),
    "apiserver": Place("api-server-certificate", "apiserver.crt", "apiserver.key"),
    "apiserver-kubelet-client": Place(
        "api-server-kubelet-client-certificate", "apiserver-kubelet-client.crt", "apiserver-kubelet-client.key"
    ),
    "front-proxy-client": Place("front-proxy-client-certificate", "front-proxy-client.crt", "front-proxy-client.key"),
    # Kamaji calls the tenant's client certificate `server`; the server's own is ours to keep, as each control plane has its own etcd.
    "etcd-client": Place("datastore-certificate", "server.crt", "server.key"),
    "etcd-server": Place("datastore-certificate", "etcd.crt", "etcd.key"),
}

# User -> the Secret and the key of the kubeconfig that carries its certificate.
KUBECONFIGS: dict[str, tuple[str, str]] = {
    "admin": ("admin-kubeconfig", "admin.conf"),
    "super-admin": ("admin-kubeconfig", "super-admin.conf"),
    "controller-manager": ("controller-manager-kubeconfig", "controller-manager.conf"),
    "scheduler": ("scheduler-kubeconfig", "scheduler.conf"),
}

SUFFIXES = tuple(
    dict.fromkeys([*(place.suffix for place in PLACES.values()), *(suffix for suffix, _ in KUBECONFIGS.values()), "datastore-config"])
)


class StoredKeys(msgspec.Struct, frozen=True):
    """What the Secrets hold: any of the parts may be missing."""

    authorities: dict[str, KeyPair]
    leaves: dict[str, KeyPair]
    service_account: KeyPair | None


def secret_name(name: str, suffix: str) -> str:
    """Name of a Secret of the TenantControlPlane `name`."""
    return f"{name}-{suffix}"


def read_keys(secrets: Mapping[str, JsonObject], authorities: Iterable[str]) -> StoredKeys:
    """The key material in the Secrets, which are given by suffix.

    Leaves in a Secret with Kamaji's rotate annotation do not count, so that they are issued anew.
    """
    names = frozenset(authorities)
    found: dict[str, KeyPair] = {}
    for name, place in PLACES.items():
        secret = secrets.get(place.suffix)
        lasting = name in names or name == SERVICE_ACCOUNT
        if secret is None or (_is_to_rotate(secret) and not lasting):
            continue
        pair = _key_pair(_decode(secret), place)
        if pair is not None:
            found[name] = pair
    for user, (suffix, key) in KUBECONFIGS.items():
        secret = secrets.get(suffix)
        if secret is not None and not _is_to_rotate(secret):
            pair = _kubeconfig_identity(_decode(secret).get(key, b""))
            if pair is not None:
                found[user] = pair
    service_account = found.pop(SERVICE_ACCOUNT, None)
    return StoredKeys(
        {name: pair for name, pair in found.items() if name in names},
        {name: pair for name, pair in found.items() if name not in names},
        service_account,
    )


def secret_data(plane: ControlPlane, keys: Keys, *, datastore: Mapping[str, str]) -> dict[str, Data]:
    """What each Secret must hold, by suffix; `datastore` are the settings of the data store, kept as Kamaji keeps them.

    Kamaji's `admin.svc` is for programs beside the API server, which dial its Service. Here the Service's address is the cloud
    address, so it has the same content as `admin.conf`.
    """
    pairs = {**keys.authorities, **keys.leaves, SERVICE_ACCOUNT: keys.service_account}
    data: dict[str, Data] = {suffix: {} for suffix in SUFFIXES}
    for name, place in PLACES.items():
        data[place.suffix] |= {place.certificate: pairs[name].certificate, place.key: pairs[name].key}
    ca = keys.authorities["ca"]
    # Cluster API reads the authority under these two keys, Kamaji under the other two.
    data["ca"] |= {"tls.crt": ca.certificate, "tls.key": ca.key}
    for user, (suffix, key) in KUBECONFIGS.items():
        data[suffix][key] = kubeconfig_inline(plane.server, ca.certificate, keys.leaves[user], cluster=plane.cluster_name, user=user)
    for user in ("admin", "super-admin"):
        data["admin-kubeconfig"][f"{user}.svc"] = data["admin-kubeconfig"][f"{user}.conf"]
    data["datastore-config"] = {key: value.encode() for key, value in datastore.items()}
    return data


def encode(data: Data) -> dict[str, str]:
    """The `data` of a Secret as the API has it."""
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def checksum(data: Data) -> str:
    """A digest that changes when any key or value changes."""
    digest = hashlib.sha256()
    for key in sorted(data):
        digest.update(f"{key}\0{len(data[key])}\0".encode())
        digest.update(data[key])
    return digest.hexdigest()[:32]


def _decode(secret: JsonObject) -> Data:
    data: Data = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            data[key] = base64.b64decode(value, validate=True)
        except binascii.Error:
            continue  # the API server admits only base64; a value it let through damaged counts as absent
    return data


def _key_pair(data: Data, place: Place) -> KeyPair | None:
    certificate, key = data.get(place.certificate), data.get(place.key)
    return KeyPair(certificate, key) if certificate and key else None


def _kubeconfig_identity(document: bytes) -> KeyPair | None:
    """The client certificate inside a kubeconfig that we wrote; None when there is none to be read."""
    try:
        user: dict[str, Any] = msgspec.json.decode(document)["users"][0]["user"]
        return KeyPair(base64.b64decode(user["client-certificate-data"]), base64.b64decode(user["client-key-data"]))
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError):
        return None


def _is_to_rotate(secret: JsonObject) -> bool:
    return ROTATE_ANNOTATION in (secret["metadata"].get("annotations") or {})
