"""The platform's own key material, kept in one file below the home.

Tenants' keys are Secrets in the platform's API; the platform's have nowhere to be but on disk.
"""

from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from pilvi.api.registry import REGISTRY_HOST
from pilvi.controlplane import ControlPlane, Keys, create_keys, renew_leaves
from pilvi.errors import UserError
from pilvi.lib.files import write_atomic
from pilvi.pki import KeyPair, Usage, create_ca, get_names, issue, needs_renewal
from pilvi.plane.aggregation import server_name

ENGINE_USER = "system:pilvi:engine"
CLUSTER_API_USER = "system:pilvi:cluster-api"
ADMIN_GROUP = "kubeadm:cluster-admins"
# Members bypass RBAC, which the engine needs before any RBAC object exists.
MASTERS_GROUP = "system:masters"

FILE = "platform-keys.json"

# Webhooks are dialled on the loopback, the engine's aggregated API by way of its Service.
_SERVER_NAMES = ("localhost", server_name())


class PlatformKeys(msgspec.Struct, frozen=True):
    """The control plane's keys, and those of the clients and servers that only the platform has.

    `webhook` is what everything shows that the API server itself dials: webhooks and the aggregated API. `registry` is the registry's;
    a file of an older pilvi has none.
    """

    control_plane: Keys
    engine: KeyPair
    cluster_api: KeyPair
    webhook_ca: KeyPair
    webhook: KeyPair
    registry: KeyPair | None = None


def ensure_platform_keys(home: Path, plane: ControlPlane) -> PlatformKeys:
    """Read the keys, issue anew what ends soon, make all of them for a new cloud; may be called repeatedly.

    Raises UserError when the file is missing although the platform has data: new authorities would shut every client out.
    """
    path = home / FILE
    now = datetime.now(UTC)
    if path.exists():
        keys = _decode(path)
        renewed = _renew(keys, plane, now)
    elif (plane.data_dir / "etcd" / "member").exists():
        raise UserError(
            f"{path} is missing, but {plane.data_dir} holds a platform that trusts only the keys in it",
            hint=f"restore {path} from a backup, or remove the cloud with `pilvi down --purge`",
        )
    else:
        keys, renewed = None, _create(plane)
    if renewed != keys:
        write_atomic(path, msgspec.json.encode(renewed), mode=0o600)
    return renewed


def _decode(path: Path) -> PlatformKeys:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PlatformKeys)
    except msgspec.DecodeError as e:
        raise UserError(f"{path} is damaged", hint=f"restore {path} from a backup, or remove the cloud with `pilvi down --purge`") from e


def _create(plane: ControlPlane) -> PlatformKeys:
    control_plane = create_keys(plane)
    webhook_ca = create_ca("pilvi-webhooks")
    return PlatformKeys(
        control_plane,
        _client(control_plane, ENGINE_USER),
        _client(control_plane, CLUSTER_API_USER),
        webhook_ca,
        _webhook(webhook_ca),
        _registry(control_plane, plane),
    )


def _renew(keys: PlatformKeys, plane: ControlPlane, now: datetime) -> PlatformKeys:
    control_plane, _ = renew_leaves(plane, keys.control_plane, now)

    def due(pair: KeyPair) -> bool:
        return needs_renewal(pair.certificate, now)

    return PlatformKeys(
        control_plane,
        _client(control_plane, ENGINE_USER) if due(keys.engine) else keys.engine,
        _client(control_plane, CLUSTER_API_USER) if due(keys.cluster_api) else keys.cluster_api,
        keys.webhook_ca,
        # A cloud of an older pilvi has one for fewer names.
        _webhook(keys.webhook_ca) if due(keys.webhook) or get_names(keys.webhook.certificate) != _SERVER_NAMES else keys.webhook,
        _registry(control_plane, plane) if keys.registry is None or due(keys.registry) else keys.registry,
    )


def _client(control_plane: Keys, user: str) -> KeyPair:
    return issue(control_plane.authorities["ca"], user, Usage.CLIENT, organizations=(MASTERS_GROUP,))


def _webhook(ca: KeyPair) -> KeyPair:
    return issue(ca, "pilvi-webhooks", Usage.SERVER, dns_names=_SERVER_NAMES, addresses=(IPv4Address("127.0.0.1"),))


def _registry(control_plane: Keys, plane: ControlPlane) -> KeyPair:
    return issue(control_plane.authorities["ca"], "pilvi-registry", Usage.SERVER, dns_names=(REGISTRY_HOST,), addresses=(plane.address,))
